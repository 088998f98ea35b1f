//! Killed for real: the saga runs in a process of its own on an SQLite journal, the world in this
//! one, and the process is killed with SIGKILL at random moments until the saga has ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use saga::journal::{Journal, Pending, sqlite::SqliteJournal};
use saga::{Ended, Event, OpenError, Runner, SagaName, Stopped, Trouble};

use crate::keeper::NoTime;
use crate::post::Post;
use crate::workflow::{MoveLight, Wish};
use crate::world::{Letter, Outcome, Party, Reply, Weather, World};

const SAGAS: u64 = 24;
/// How often two processes are set on one saga.
const PAIRS: u64 = 20;
const LIVES_MAX: u32 = 200;
const LIFE_S_MAX: u64 = 60;
/// Most of the time from a life's first letter to its kill.
const KILL_US_MAX: u64 = 6_000;

/// Letters over a socket; one at a time, each answered.
struct Wire {
    stream: Mutex<UnixStream>,
}

impl Post for Wire {
    fn send<'a>(&'a self, to: Party, letter: Letter) -> Pending<'a, Result<Reply, Trouble>> {
        let asked = || -> std::io::Result<Reply> {
            let mut stream = self.stream.lock().unwrap();
            let mut line = serde_json::to_string(&(to, letter))?;
            line.push('\n');
            stream.write_all(line.as_bytes())?;
            let mut reply = String::new();
            BufReader::new(&*stream).read_line(&mut reply)?;
            Ok(serde_json::from_str(&reply)?)
        };
        Box::pin(std::future::ready(asked().map_err(Trouble::transient)))
    }
}

/// What makes this test the life of a saga that another test has started, and may kill.
const SOCKET: &str = "SAGA_SOCKET";
const JOURNAL: &str = "SAGA_JOURNAL";
const NAME: &str = "SAGA_NAME";

/// As a child of the tests below, one life; else a whole one, by itself, which nobody kills.
#[test]
fn a_life_that_nobody_kills_moves_the_light() {
    let var = |name| std::env::var(name).expect("set by the test that starts this one");
    if std::env::var_os(SOCKET).is_some() {
        live(Path::new(&var(SOCKET)), Path::new(&var(JOURNAL)), &var(NAME));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (socket, journal) = (folder.path().join("world"), folder.path().join("journal"));
    let world = Arc::new(Mutex::new(World::new(Weather::Fair)));
    serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&world), Arc::default());
    live(&socket, &journal, "cape");
    let end = ended(&journal, &SagaName::new("cape".to_owned()).unwrap());
    assert!(matches!(end, Some(Ended::Completed { .. })), "{end:?}");
    assert_eq!(world.lock().unwrap().outcome().unwrap(), Outcome::Moved);
}

fn live(socket: &Path, journal: &Path, name: &str) {
    let stream = UnixStream::connect(socket).unwrap();
    let workflow = MoveLight { post: Wire { stream: Mutex::new(stream) } };
    let journal = Arc::new(SqliteJournal::open(journal).unwrap());
    let name = SagaName::new(name.to_owned()).unwrap();
    let runner = Runner::new(journal, Arc::new(NoTime));
    let live = async {
        let driven = match runner.open(&workflow, name, Wish::new(false)).await {
            Err(OpenError::NameTaken(name)) => runner.resume(&workflow, name).await,
            other => other,
        };
        match driven {
            Err(OpenError::Over { .. }) => {}
            Err(OpenError::Stopped(stopped)) => {
                assert!(matches!(*stopped, Stopped::Superseded { .. }), "{stopped:?}");
            }
            driven => match driven.unwrap().drive().await {
                Ok(_) | Err(Stopped::GaveUp { .. } | Stopped::Superseded { .. }) => {}
                Err(stopped) => panic!("{stopped:?}"),
            },
        }
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(live);
}

fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Serves the world to whoever connects, one life after the other, and counts letters.
fn serve(listener: UnixListener, world: Arc<Mutex<World>>, letters: Arc<AtomicU64>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let (world, letters) = (Arc::clone(&world), Arc::clone(&letters));
            thread::spawn(move || answer(&stream, &world, &letters));
        }
    });
}

fn answer(stream: &UnixStream, world: &Mutex<World>, letters: &AtomicU64) {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        // A killed life's last line may be cut.
        let Ok(line) = line else { return };
        let Ok((to, letter)) = serde_json::from_str::<(Party, Letter)>(&line) else { return };
        letters.fetch_add(1, Ordering::SeqCst);
        let reply = world.lock().unwrap().handle(to, &letter);
        let reply = serde_json::to_string(&reply).unwrap() + "\n";
        if writer.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn start(folder: &Path, name: &SagaName) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "for_real::a_life_that_nobody_kills_moves_the_light", "--nocapture"])
        .env(SOCKET, folder.join("world"))
        .env(JOURNAL, folder.join("journal"))
        .env(NAME, name.as_str())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the child a random time after its first letter. True if that was before it ended.
fn live_and_kill(child: &mut Child, letters: &AtomicU64, kill_after: Duration) -> bool {
    let before = letters.load(Ordering::SeqCst);
    let born = Instant::now();
    let mut first = None;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "a life failed by itself: {}", complaint(child));
            return false;
        }
        assert!(born.elapsed().as_secs() < LIFE_S_MAX, "a life without end");
        if first.is_none() && letters.load(Ordering::SeqCst) > before {
            first = Some(Instant::now());
        }
        if first.is_some_and(|first| first.elapsed() >= kill_after) {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        thread::yield_now();
    }
}

fn complaint(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        let _ = std::io::Read::read_to_string(stderr, &mut said);
    }
    said
}

fn ended(journal: &Path, name: &SagaName) -> Option<Ended> {
    let journal = SqliteJournal::open(journal).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let records = runtime.block_on(journal.read(name)).unwrap();
    match saga::events(&records).unwrap().pop() {
        Some(Event::Ended(ended)) => Some(ended),
        _ => None,
    }
}

#[test]
fn killed_for_real_at_random_it_moves_or_stays_and_the_journal_is_whole() {
    let seed = match std::env::var("CAUSEWAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    println!("seed {seed}; CAUSEWAY_SEED=N draws the same times");
    let mut state = seed;
    let folder = tempfile::tempdir().unwrap();
    let letters = Arc::new(AtomicU64::new(0));
    let (mut kills, mut moved) = (0, 0);
    for number in 0..SAGAS {
        let world = Arc::new(Mutex::new(World::new(Weather::Fair)));
        let socket = folder.path().join("world");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        serve(listener, Arc::clone(&world), Arc::clone(&letters));
        let name = SagaName::new(format!("cape/{number}")).unwrap();
        let mut lives = 0;
        let end = loop {
            lives += 1;
            assert!(lives <= LIVES_MAX, "no end");
            let mut child = start(folder.path(), &name);
            let kill_after = Duration::from_micros(dice(&mut state) % KILL_US_MAX);
            kills += u32::from(live_and_kill(&mut child, &letters, kill_after));
            if let Some(end) = ended(&folder.path().join("journal"), &name) {
                break end;
            }
        };
        let outcome = world.lock().unwrap().outcome().unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(matches!(end, Ended::Completed { .. }), outcome == Outcome::Moved);
        moved += u32::from(outcome == Outcome::Moved);
        if outcome == Outcome::Moved {
            assert_eq!(world.lock().unwrap().ever_placed(Party::Bank), 1, "paid once");
        }
    }
    println!("{kills} kills, {moved} of {SAGAS} moved");
    assert!(kills > 20, "{kills} kills are too few to show anything");
    assert!(moved > 0, "none moved");
}

#[test]
fn two_processes_on_one_saga_end_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let letters = Arc::new(AtomicU64::new(0));
    for number in 0..PAIRS {
        let world = Arc::new(Mutex::new(World::new(Weather::Fair)));
        // A letter of the slower one may be under way when the faster takes over.
        world.lock().unwrap().painter_seen = Some(0);
        let socket = folder.path().join("world");
        let _ = std::fs::remove_file(&socket);
        serve(UnixListener::bind(&socket).unwrap(), Arc::clone(&world), Arc::clone(&letters));
        let name = SagaName::new(format!("cape/{number}")).unwrap();
        let mut lives = 0;
        let end = loop {
            lives += 1;
            assert!(lives <= LIVES_MAX, "no end");
            let mut pair = [start(folder.path(), &name), start(folder.path(), &name)];
            for child in &mut pair {
                assert!(!live_and_kill(child, &letters, Duration::MAX));
            }
            if let Some(end) = ended(&folder.path().join("journal"), &name) {
                break end;
            }
        };
        let outcome = world.lock().unwrap().outcome().unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(matches!(end, Ended::Completed { .. }), "{end:?}");
        assert_eq!(outcome, Outcome::Moved);
    }
}
