//! What a move's outcomes say of names and of the application's health, as its view shows it.

use orchestrator_api::operator::MoveView;
use orchestrator_api::{HealthTold, NamesTold};
use serde_json::Value;

/// The steps that tell name servers something, by their ids in journals.
const NAMES: [&str; 3] = ["shorten", "steer", "restore"];
/// The step that looks at the application.
const HEALTH: &str = "health";

/// Takes what a step came to.
pub(super) fn done(view: &mut MoveView, step: &str, outcome: &Value) {
    if NAMES.contains(&step) {
        view.names = serde_json::from_value::<NamesTold>(outcome.clone()).ok();
    } else if step == HEALTH {
        view.health = serde_json::from_value::<HealthTold>(outcome.clone()).ok();
    }
}

/// Takes back what is no more.
pub(super) fn undone(view: &mut MoveView, step: &str) {
    if NAMES.contains(&step) {
        view.names = None;
    }
}

#[cfg(test)]
mod tests {
    use orchestrator_api::{NamePlace, Unconfirmed};

    use super::super::ordered::tests::ordered;
    use super::super::telling::Telling;
    use super::*;

    #[test]
    fn names_are_told_as_the_last_order_left_them_and_no_more_once_it_is_undone() {
        let mut view = Telling::new("web.1".parse().unwrap(), &ordered(), 1_000).view().clone();
        let mut told = NamesTold {
            confirmed: 1,
            names: vec![NamePlace { name: "www.example".into(), site: "a".parse().unwrap() }],
            ..NamesTold::default()
        };
        done(&mut view, "shorten", &serde_json::to_value(&told).unwrap());
        assert_eq!(view.names.as_ref(), Some(&told));
        let (site, name) = ("b".parse().unwrap(), "ns1".parse().unwrap());
        told.unconfirmed.push(Unconfirmed { site, name, why: "silence".into() });
        done(&mut view, "steer", &serde_json::to_value(&told).unwrap());
        assert_eq!(view.names.as_ref(), Some(&told));
        done(&mut view, "arm", &Value::Null);
        undone(&mut view, "mirror");
        assert_eq!(view.names.as_ref(), Some(&told));
        undone(&mut view, "shorten");
        assert_eq!(view.names, None);
    }

    #[test]
    fn health_is_told_as_it_was_found() {
        let mut view = Telling::new("web.1".parse().unwrap(), &ordered(), 1_000).view().clone();
        let told = HealthTold::Unhealthy { addresses: vec!["192.0.2.1:80".parse().unwrap()] };
        done(&mut view, "health", &serde_json::to_value(&told).unwrap());
        assert_eq!(view.health, Some(told));
    }
}
