//! What an agent refuses by itself, asked directly over HTTPS; no QEMU is started.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command as Program, Stdio};

use daemon::identity::Credentials;
use lab::programs;
use orchestrator_api::OrderRequest;
use placement::{Answer, Authority, Command, End, Epoch, Identity, Pair, Release};
use serde_json::Value;

use crate::asking::{self, Asked, Papers, authority, definition, order, owner, refusal, vm};

/// An agent on the loopback, in a folder of its own; it ends with the value.
struct Alone {
    papers: Papers,
    serve: Credentials,
    child: Child,
    address: SocketAddr,
}

impl Alone {
    fn start() -> Alone {
        let papers = Papers::new();
        let folder = papers.folder().to_owned();
        // QEMU's user has to get to its disks.
        fs::set_permissions(&folder, Permissions::from_mode(0o711)).unwrap();
        fs::rename(papers.bundle("a", "agent", "hv1"), folder.join("hv1")).unwrap();
        let rest = "[state]\nfolder = \"state\"\n[qemu]\nuser = \"nobody\"\naccelerator = \"tcg\"\n\
                    [folders]\ndisks = \"disks\"\nsockets = \"sockets\"";
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let path = folder.join("agent.toml");
        fs::write(&path, asking::configuration("a", listen, rest)).unwrap();
        let mut program = Program::new(programs::path("causeway").unwrap());
        program.args(["agent", "run", "--log-format", "json", "--config"]).arg(&path);
        let mut child = program.stderr(Stdio::piped()).env_remove("RUST_LOG").spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut events = lines
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let ready = events.find(|event| event["message"] == "ready").expect("the agent is ready");
        let address = ready["address"].as_str().unwrap().parse().unwrap();
        // Whatever it says from here on is read, or it would wait for us.
        std::thread::spawn(move || events.for_each(drop));
        let serve = papers.credentials("a", "orchestrator", "serve");
        Alone { papers, serve, child, address }
    }

    /// Has it remember a claim of epoch 2, as the target of a move from site b.
    fn claimed(self) -> Alone {
        let claim = claim(&authority(2), "b", "a");
        assert!(matches!(self.order(&claim), Ok(Answer::Granted { .. })));
        self
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Asked for Alone {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn identity(&self) -> Identity {
        "causeway://site/a/role/agent/name/hv1".parse().unwrap()
    }

    fn papers(&self) -> &Credentials {
        &self.serve
    }
}

fn end(site: &str) -> End {
    End {
        site: site.parse().unwrap(),
        agent: "hv1".parse().unwrap(),
        address: ([192, 0, 2, 3], 7402).into(),
        proxy: "p1".parse().unwrap(),
    }
}

fn claim(authority: &Authority, from: &str, to: &str) -> OrderRequest {
    let pair = Pair { from: end(from), to: end(to) };
    let command = Command::Claim { authority: authority.clone(), pair, takeover: false };
    order("claim", authority, command, None)
}

fn refuse_by_an_agent() -> OrderRequest {
    let release = Release { epoch: Epoch::new(2), owner: owner(7) };
    let mut asked =
        order("refuse", &authority(2), Command::Refuse { authority: None, release }, None);
    asked.key.owner = None;
    asked
}

#[test]
fn a_stale_epoch_and_a_second_owner_are_refused_and_a_repetition_is_not() {
    let agent = Alone::start().claimed();
    let first = agent.order(&claim(&authority(2), "b", "a")).unwrap();
    assert_eq!(agent.order(&claim(&authority(2), "b", "a")).unwrap(), first);

    let (status, stale) = refusal(agent.order(&claim(&authority(1), "b", "a")));
    assert_eq!((status, stale.code.as_str()), (409, "older"));
    assert_eq!(stale.remedy, "claim a later one");
    for epoch in [2, 3] {
        let second = Authority { epoch: Epoch::new(epoch), owner: owner(8) };
        let (status, owned) = refusal(agent.order(&claim(&second, "b", "a")));
        assert_eq!((status, owned.code.as_str()), (409, "owned"), "{owned:?}");
        assert!(owned.message.contains("serve.0000000000000007"), "{owned:?}");
    }
    let never = Command::Stop { authority: authority(9) };
    let (_, never) = refusal(agent.order(&order("stop", &authority(9), never, None)));
    assert_eq!(never.code, "not_claimed");
    let view = agent.vm().unwrap();
    assert_eq!((view.record.epoch, view.record.owner), (Epoch::new(2), Some(owner(7))));
}

#[test]
fn only_the_agent_at_the_other_end_may_ask_for_a_refusal_or_look() {
    let agent = Alone::start().claimed();
    let stranger = agent.papers.credentials("c", "agent", "hv1");
    let (status, refused) = refusal(agent.order_as(&stranger, &refuse_by_an_agent()));
    assert_eq!((status, refused.code.as_str()), (403, "caller"));
    assert!(refused.message.contains("causeway://site/c/role/agent/name/hv1"), "{refused:?}");
    let (status, _) = refusal(agent.vm_as(&stranger));
    assert_eq!(status, 403);

    let other_end = agent.papers.credentials("b", "agent", "hv1");
    assert_eq!(agent.vm_as(&other_end).unwrap().record.epoch, Epoch::new(2));
    let answer = agent.order_as(&other_end, &refuse_by_an_agent()).unwrap();
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    // It may ask for nothing else.
    let (status, _) = refusal(agent.order_as(&other_end, &claim(&authority(3), "b", "a")));
    assert_eq!(status, 403);
}

#[test]
fn a_viewer_looks_and_gives_no_orders() {
    let agent = Alone::start().claimed();
    let viewer = agent.papers.credentials("a", "viewer", "eve");
    assert_eq!(agent.vm_as(&viewer).unwrap().record.vm, vm());
    let (status, refused) = refusal(agent.order_as(&viewer, &claim(&authority(3), "b", "a")));
    assert_eq!((status, refused.code.as_str()), (403, "wrong_role"));
}

#[test]
fn a_vm_that_is_unknown_or_cannot_run_here_leaves_no_record() {
    let agent = Alone::start();
    let (status, unknown) = refusal(agent.vm());
    assert_eq!((status, unknown.code.as_str()), (404, "unknown_vm"));
    let stranger = agent.papers.credentials("c", "agent", "hv1");
    assert_eq!(refusal(agent.order_as(&stranger, &refuse_by_an_agent())).0, 403);

    let place = Command::Place { owner: owner(7) };
    let asked = order("place", &authority(1), place.clone(), Some(&definition(&[])));
    let (status, unfit) = refusal(agent.order(&asked));
    assert_eq!((status, unfit.code.as_str()), (422, "unfit"));
    assert!(unfit.message.contains("image 'guest' is not configured here"), "{unfit:?}");
    let (_, without) = refusal(agent.order(&order("place", &authority(1), place, None)));
    assert_eq!(without.code, "no_definition");
    assert_eq!(refusal(agent.vm()).0, 404);
    let records = fs::read_dir(agent.papers.folder().join("state")).unwrap();
    let records: Vec<_> = records.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(records, [".lock"]);
}

#[test]
fn check_says_what_is_understood_and_names_what_is_wrong() {
    let agent = Alone::start();
    let path = agent.papers.folder().join("agent.toml");
    let check = || {
        let mut program = Program::new(programs::path("causeway").unwrap());
        program.args(["agent", "check", "--config"]).arg(&path).output().unwrap()
    };
    let told = check();
    assert_eq!(told.status.code(), Some(0));
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("app: bridge br0, leg p1"), "{text}");
    let sound = fs::read_to_string(&path).unwrap();
    fs::write(&path, sound.replace("bridge =", "brigde =")).unwrap();
    let told = check();
    assert_eq!(told.status.code(), Some(2));
    let text = String::from_utf8(told.stderr).unwrap();
    assert!(text.contains("agent.toml:") && text.contains("unknown field 'brigde'"), "{text}");
}
