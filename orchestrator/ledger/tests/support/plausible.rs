//! A fixture: a move as it might have been, made of seeded chance. Nothing in it was measured.

use std::collections::BTreeMap;

use ledger::report::{
    Became, Comparison, Hold, Migration, Moment, Outcome, Party, Pause, Place, REPORT_VERSION,
    Reclaimed, Report, Said, Sample, Source, StallSample, Versus, Word, timeline,
};
use ledger::{Event, FlowListed, FlowSeen, Fold, SideFlowSeen, StragglerSeen, Tuple, VmEnd};
use proxy_api::{CloseReason, Protocol};

use super::chance::Chance;
use super::{PIVOT_AT_MS, ended, key, listed, pivot, seen};

/// When the move began.
pub(crate) const START_MS: u64 = PIVOT_AT_MS - 62_310;

/// A report with so many flows.
pub(crate) fn report(flows: u64) -> Report {
    let (stopped_at_ms, running_at_ms) = (PIVOT_AT_MS - 188, PIVOT_AT_MS + 24);
    Report {
        version: REPORT_VERSION,
        made_at_ms: PIVOT_AT_MS + 600_000,
        migration: Migration {
            name: "web-1.12".to_owned(),
            vm: "web-1".parse().unwrap(),
            from: Place { site: "oslo".parse().unwrap(), agent: Some("hv1".parse().unwrap()) },
            to: Place { site: "bergen".parse().unwrap(), agent: Some("hv4".parse().unwrap()) },
            epoch: placement::Epoch::new(12),
            ordered_by: "causeway://site/hq/role/operator/name/ada".to_owned(),
            attempt: 1,
        },
        outcome: Outcome::Draining,
        started_at_ms: START_MS,
        ended_at_ms: None,
        pause: Some(Pause { stopped_at_ms, running_at_ms, budget_ms: Some(300) }),
        steps: timeline(words()),
        moments: moments(),
        samples: samples(),
        stall_samples: stall_samples(),
        comparison: Comparison {
            total_ms: Versus { estimate: Some(58_000), actual: Some(62_334) },
            pause_ms: Versus { estimate: Some(250), actual: Some(212) },
            disk_bytes: Versus { estimate: Some(4_294_967_296), actual: Some(4_311_744_512) },
            memory_bytes: Versus { estimate: Some(1_200_000_000), actual: Some(1_512_000_000) },
            wire_bytes: Versus { estimate: None, actual: Some(3_410_000_000) },
        },
        hold: Some(Hold {
            began_at_ms: PIVOT_AT_MS - 201,
            ended_at_ms: Some(PIVOT_AT_MS + 31),
            held: 1_034,
            released: 1_034,
            dropped: BTreeMap::new(),
            held_bytes_max: 611_020,
        }),
        ledger: {
            let mut fold = Fold::default();
            fold.extend(events(flows)).unwrap();
            fold.ledger()
        },
        reclaimed: vec![
            reclaimed("process", "qemu of epoch 11", Became::Released),
            reclaimed("disk", "web-1.moved-12", Became::Kept { because: "--keep-disk".to_owned() }),
            reclaimed(
                "VIP",
                "192.0.2.10",
                Became::Quarantined { until_ms: PIVOT_AT_MS + 604_800_000 },
            ),
        ],
        sources: sources(),
    }
}

fn sources() -> Vec<Source> {
    vec![
        source(Party::Proxy, "px1", "oslo", Said::Told),
        source(
            Party::Proxy,
            "px2",
            "bergen",
            Said::Silent { because: "it took too long".to_owned() },
        ),
        source(
            Party::Agent,
            "hv1",
            "oslo",
            Said::Nothing { because: "it was reclaimed".to_owned() },
        ),
    ]
}

fn source(is: Party, name: &str, site: &str, said: Said) -> Source {
    let told_at_ms = matches!(said, Said::Told).then_some(PIVOT_AT_MS + 600_000);
    let (name, site) = (name.parse().unwrap(), site.parse().unwrap());
    Source { is, name, site, told_at_ms, said, left_out: 0 }
}

fn reclaimed(what: &str, name: &str, became: Became) -> Reclaimed {
    let site = "oslo".parse().unwrap();
    Reclaimed { site, what: what.to_owned(), name: name.to_owned(), became }
}

fn words() -> Vec<(u64, Word)> {
    let steps: [(&str, i64, i64); 15] = [
        ("check", 0, 1_420),
        ("claim", 1_430, 1_520),
        ("reserve", 1_530, 2_610),
        ("channels", 2_620, 2_900),
        ("mirror", 2_910, 41_800),
        ("stage", 41_810, 42_000),
        ("memory", 42_010, 62_090),
        ("hold", 62_102, 62_121),
        ("release", 62_122, 62_300),
        ("start", 62_302, 62_334),
        ("redirect", 62_336, 62_372),
        ("verify", 62_374, 62_900),
        ("steer", 62_910, 63_300),
        ("register", 63_310, 63_420),
        ("drain", 63_430, -1),
    ];
    let at = |ms: i64| START_MS + u64::try_from(ms).unwrap();
    let mut words = Vec::new();
    for (step, from, to) in steps {
        words.push((at(from), Word::Started { step: step.to_owned() }));
        if step == "steer" {
            let reason = "the name server ns2 did not answer in 200 ms".to_owned();
            words.push((at(from + 210), Word::Again { step: step.to_owned(), reason }));
        }
        if to > 0 {
            words.push((at(to), Word::Done { step: step.to_owned() }));
        }
    }
    words
}

fn moments() -> Vec<Moment> {
    let moment = |after_ms: i64, what: &str| Moment {
        at_ms: PIVOT_AT_MS.checked_add_signed(after_ms).unwrap(),
        what: what.to_owned(),
    };
    vec![
        moment(-140, "Tap read empty"),
        moment(-22, "Source released"),
        moment(0, "Target accepted: the pivot"),
        moment(26, "First packet released"),
    ]
}

fn samples() -> Vec<Sample> {
    let mut chance = Chance::new(7);
    let mut sample = Sample::default();
    let mut samples = Vec::new();
    for step in 1..=660_u64 {
        let after_ms = step * 100;
        let jitter = 90 + chance.below(20);
        match after_ms {
            2_900..41_800 => sample.disk_bytes += 110_000 * jitter,
            42_000..62_000 => {
                sample.memory_bytes += 75_000 * jitter;
                sample.disk_bytes += 3_000 * jitter;
            }
            _ => {}
        }
        let packets = if after_ms > 62_100 { 60_000 } else { 0 };
        sample.packet_bytes += packets * jitter / 100 * 9;
        let carried = sample.disk_bytes + sample.memory_bytes;
        sample.wire_bytes = carried * 62 / 100 + sample.packet_bytes;
        sample.at_ms = START_MS + after_ms;
        samples.push(sample);
    }
    samples
}

fn stall_samples() -> Vec<StallSample> {
    let mut chance = Chance::new(11);
    let mut samples = Vec::new();
    for step in 1..=1_320_u64 {
        let at_ms = START_MS + step * 50;
        let held = at_ms.saturating_sub(PIVOT_AT_MS - 201);
        let longest_owed_ms = match held {
            1..=260 => held,
            261..=460 => 402,
            _ => 18 + chance.below(26),
        };
        let flows_owing = if (1..=260).contains(&held) { 190 } else { 4 + chance.below(9) };
        samples.push(StallSample {
            at_ms,
            flows_owing,
            owed_bytes: flows_owing * 90,
            longest_owed_ms,
        });
    }
    samples
}

fn events(flows: u64) -> Vec<Event> {
    let mut chance = Chance::new(42);
    let mut events = vec![pivot()];
    for number in 1..=flows {
        let flow = FlowListed {
            client: format!(
                "198.51.{}.{}:{}",
                100 + number / 250 % 100,
                number % 250,
                20_000 + number
            )
            .parse()
            .unwrap(),
            protocol: if number % 11 == 0 { Protocol::Udp } else { Protocol::Tcp },
            ..listed(number)
        };
        events.push(Event::Listed(flow));
        let stall_us_max = match chance.below(100) {
            0..2 => 380_000 + chance.below(25_000),
            2..16 => 40_000 + chance.below(140_000),
            _ => 205_000 + chance.below(50_000),
        };
        let (up, down) = (20_000 + chance.below(90_000), 90_000 + chance.below(4_000_000));
        events.push(match number {
            17 | 90 => Event::Ended(ended(number, 5, (0, 0), CloseReason::ClientRst)),
            31 => Event::Ended(ended(number, 80, (0, 0), CloseReason::ServerFin)),
            44 => Event::Ended(ended(number, 60, (0, 0), CloseReason::Killed)),
            _ if number % 13 == 0 => {
                Event::Seen(FlowSeen { stall_us_max: 0, ..seen(number, 590_000, 0, 0) })
            }
            _ if number % 7 == 0 => Event::Ended(ledger::FlowEnded {
                stall_us_max,
                ..ended(number, 9_000 + number, (up, down), CloseReason::ClientFin)
            }),
            _ => Event::Seen(FlowSeen { stall_us_max, ..seen(number, 590_000, up, down) }),
        });
    }
    events.extend(side_events());
    for (number, client) in [(1, "203.0.113.40"), (2, "203.0.113.40"), (3, "203.0.113.77")] {
        events.push(Event::Straggler(StragglerSeen {
            flow: key(1_000_000 + number),
            at_ms: PIVOT_AT_MS + 40_000 * number,
            client: format!("{client}:{}", 50_000 + number).parse().unwrap(),
            vip: "192.0.2.10:443".parse().unwrap(),
            service: "shop".parse().unwrap(),
        }));
    }
    // A contradiction, so that the page shows how that looks: it ended before.
    events.push(Event::Seen(seen(17, 500, 0, 0)));
    events
}

fn side_events() -> Vec<Event> {
    let side = |port: u16, end, first_at_ms, last_at_ms| {
        Event::SideFlow(SideFlowSeen {
            tuple: Tuple {
                protocol: Protocol::Tcp,
                vm: format!("10.7.0.20:{port}").parse().unwrap(),
                peer: "10.7.0.31:5432".parse().unwrap(),
            },
            end,
            first_at_ms: Some(first_at_ms),
            last_at_ms: Some(last_at_ms),
        })
    };
    vec![
        side(40_112, VmEnd::Source, START_MS - 900_000, PIVOT_AT_MS - 195),
        side(40_112, VmEnd::Target, PIVOT_AT_MS + 41, PIVOT_AT_MS + 500_000),
        side(40_220, VmEnd::Source, START_MS - 20_000, PIVOT_AT_MS - 3_100),
    ]
}
