//! What witnesses have seen, and what follows from it: where a VM was when, and whether it ever was
//! at two places.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Frames of one port that are no further apart are one sighting. Far below the pause of any move,
/// so that no sighting spans a stay elsewhere.
pub const SAME_SIGHTING_MS_MAX: u64 = 5;
/// More sightings than that are counted as missed frames, so that no test passes on a part.
const SIGHTINGS_MAX: usize = 1 << 20;

/// Frames seen at one port without a longer pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The port of the bridge.
    pub port: String,
    /// Time of the first frame, since 1970.
    pub from: Duration,
    /// Time of the last.
    pub until: Duration,
    /// How many.
    pub frames: u64,
}

/// What one witness has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// Where it stood.
    pub place: String,
    /// In the order of their first frames, per port.
    pub sightings: Vec<Sighting>,
    /// Frames that it could not take in; a test that finds any knows too little to pass.
    pub frames_missed: u64,
    latest: HashMap<String, usize>,
}

impl Testimony {
    /// Nothing seen yet.
    pub fn new(place: String) -> Self {
        Self { place, sightings: Vec::new(), frames_missed: 0, latest: HashMap::new() }
    }

    /// Notes a frame seen at a port.
    pub fn note(&mut self, port: &str, at: Duration) {
        if let Some(&index) = self.latest.get(port) {
            let last = &mut self.sightings[index];
            if at <= last.until + Duration::from_millis(SAME_SIGHTING_MS_MAX) {
                last.from = last.from.min(at);
                last.until = last.until.max(at);
                last.frames += 1;
                return;
            }
        }
        if self.sightings.len() == SIGHTINGS_MAX {
            self.frames_missed += 1;
            return;
        }
        self.latest.insert(port.to_owned(), self.sightings.len());
        self.sightings.push(Sighting { port: port.to_owned(), from: at, until: at, frames: 1 });
    }

    /// The same, of the ports alone that `is_meant`: a VM's own, not what stands in for it.
    #[must_use]
    pub fn at_ports(&self, is_meant: impl Fn(&str) -> bool) -> Self {
        let mut part = Self::new(self.place.clone());
        part.frames_missed = self.frames_missed;
        part.sightings = self.sightings.clone();
        part.sightings.retain(|sighting| is_meant(&sighting.port));
        part
    }
}

/// A time in which one VM was seen at one place and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// Where.
    pub place: String,
    /// First frame, since 1970.
    pub from: Duration,
    /// Last frame.
    pub until: Duration,
    /// How many.
    pub frames: u64,
}

impl fmt::Display for Stay {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}: {:.6} to {:.6} s, {} frames",
            self.place,
            self.from.as_secs_f64(),
            self.until.as_secs_f64(),
            self.frames
        )
    }
}

/// Where the VM was, in order of time. A move adds one stay; more than the test has moved, and the
/// VM was where it should not have been.
pub fn stays(testimonies: &[Testimony]) -> Vec<Stay> {
    let mut stays: Vec<Stay> = Vec::new();
    for (place, sighting) in in_order(testimonies) {
        match stays.last_mut() {
            Some(stay) if stay.place == place => {
                stay.until = stay.until.max(sighting.until);
                stay.frames += sighting.frames;
            }
            _ => stays.push(Stay {
                place: place.to_owned(),
                from: sighting.from,
                until: sighting.until,
                frames: sighting.frames,
            }),
        }
    }
    stays
}

/// The VM seen at one place while it was still being seen at another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Where, and what was seen there first.
    pub first: (String, Sighting),
    /// Where else, before that had ended.
    pub second: (String, Sighting),
}

/// The first overlap, if the VM was ever at two places.
pub fn overlap(testimonies: &[Testimony]) -> Option<Overlap> {
    let mut last_at: HashMap<&str, &Sighting> = HashMap::new();
    for (place, sighting) in in_order(testimonies) {
        let elsewhere =
            last_at.iter().find(|(other, last)| **other != place && last.until >= sighting.from);
        if let Some((other, last)) = elsewhere {
            return Some(Overlap {
                first: ((*other).to_owned(), (*last).clone()),
                second: (place.to_owned(), sighting.clone()),
            });
        }
        let last = last_at.entry(place).or_insert(sighting);
        if sighting.until > last.until {
            *last = sighting;
        }
    }
    None
}

fn in_order(testimonies: &[Testimony]) -> Vec<(&str, &Sighting)> {
    let mut all: Vec<_> = testimonies
        .iter()
        .flat_map(|testimony| {
            let place = testimony.place.as_str();
            testimony.sightings.iter().map(move |sighting| (place, sighting))
        })
        .collect();
    all.sort_by_key(|(_, sighting)| (sighting.from, sighting.until));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(place: &str, times_ms: &[u64]) -> Testimony {
        let mut testimony = Testimony::new(place.to_owned());
        for time in times_ms {
            testimony.note("tap0", Duration::from_millis(*time));
        }
        testimony
    }

    fn places(testimonies: &[Testimony]) -> Vec<String> {
        stays(testimonies).into_iter().map(|stay| stay.place).collect()
    }

    #[test]
    fn a_move_there_and_back_is_three_stays_and_no_overlap() {
        let testimonies = [seen("a", &[0, 3, 6, 500, 503]), seen("b", &[100, 101, 250])];
        assert_eq!(places(&testimonies), ["a", "b", "a"]);
        assert_eq!(overlap(&testimonies), None);
        assert_eq!(testimonies[0].sightings.len(), 2);
        assert_eq!(testimonies[0].sightings[0].frames, 3);
    }

    #[test]
    fn one_frame_in_the_midst_of_anothers_is_an_overlap() {
        let testimonies = [seen("a", &[0, 3, 6]), seen("b", &[4])];
        let overlap = overlap(&testimonies).unwrap();
        assert_eq!((overlap.first.0.as_str(), overlap.second.0.as_str()), ("a", "b"));
    }

    #[test]
    fn a_second_life_between_frames_shows_as_a_stay_too_many() {
        let testimonies = [seen("a", &[0, 100]), seen("b", &[50, 150])];
        assert_eq!(overlap(&testimonies), None);
        assert_eq!(places(&testimonies), ["a", "b", "a", "b"]);
    }

    #[test]
    fn what_stands_in_for_the_vm_can_be_left_out() {
        let mut testimony = seen("a", &[0]);
        testimony.note("rfl1", Duration::from_millis(90));
        let own = testimony.at_ports(|port| port.starts_with("tap"));
        assert_eq!(own.sightings.len(), 1);
        assert_eq!(own.place, "a");
    }
}
