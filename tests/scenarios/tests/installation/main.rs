//! `causeway init` on the examples, verbatim: what it makes is taken by every program, and three sites
//! that start from it find each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod installed;
mod sites;

use std::path::Path;

use installed::Installed;
use placement::Role;
use scenarios::installation::description;

/// What checks the configuration of a daemon.
fn checker(role: Role) -> Option<(&'static str, &'static [&'static str])> {
    match role {
        Role::Proxy => Some(("causeway-proxy", &["check"])),
        Role::Gslb => Some(("causeway-gslb", &["check"])),
        Role::Agent => Some(("causeway", &["agent", "check"])),
        Role::Orchestrator => Some(("causeway", &["serve", "check"])),
        Role::Operator | Role::Viewer => None,
    }
}

#[test]
fn every_program_takes_what_init_makes_of_the_examples() {
    for (example, daemons_wanted) in [("two-sites", 7), ("three-sites", 10)] {
        let installed = Installed::of(example);
        let mut daemons = 0;
        for part in installed.read.parts() {
            let Some((program, words)) = checker(part.identity().role) else { continue };
            let config = part.configuration();
            let words = [words, &["--config", config.to_str().unwrap()]].concat();
            let said = installed::said(program, &words, 0);
            assert!(said.contains(&part.identity().to_string()), "{said}");
            daemons += 1;
        }
        assert_eq!(daemons, daemons_wanted, "{example}");
    }
}

#[test]
fn an_operators_file_is_read_and_its_papers_belong_to_the_service() {
    let installed = Installed::of("two-sites");
    let operator = installed.part("causeway://site/hq/role/operator/name/ada");
    let config = operator.configuration();
    // Nobody listens there; what matters is that the file and the papers got it so far.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("10.253.0.1:7400", "127.0.0.1:1")).unwrap();
    let said = installed::said("causeway", &["status", "--config", config.to_str().unwrap()], 1);
    assert!(said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn a_second_init_into_the_same_folder_changes_nothing() {
    let installed = Installed::of("two-sites");
    let part = installed.part("causeway://site/a/role/proxy/name/p1");
    let key = || std::fs::read(part.folder().join("key.pem")).unwrap();
    let before = key();
    let (description, out) = (description("three-sites"), installed.out());
    let words = ["init", description.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let said = installed::said("causeway", &words, 2);
    assert!(said.contains("nothing is overwritten"), "{said}");
    assert_eq!(key(), before);
    assert!(!Path::new(&out).join("sites/c").exists());
}
