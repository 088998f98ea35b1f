use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seat {
    epoch: u64,
    at: String,
}

fn seat(epoch: u64) -> Seat {
    Seat { epoch, at: "a".to_owned() }
}

fn opened() -> (tempfile::TempDir, StateFolder, StateFile<Seat>) {
    let outer = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(&outer.path().join("state")).unwrap();
    let file = folder.file("seat", 1);
    (outer, folder, file)
}

#[test]
fn a_folder_is_closed_to_others_and_what_lies_above_is_not() {
    let outer = tempfile::tempdir().unwrap();
    let above = outer.path().join("lib");
    let _folder = StateFolder::open(&above.join("proxy")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&above.join("proxy")), 0o700);
    assert_eq!(mode(&above) & 0o011, 0o011, "{:o}", mode(&above));
}

#[test]
fn what_was_saved_last_is_what_is_found() {
    let (_outer, folder, mut file) = opened();
    assert_eq!(file.load().unwrap(), None);
    file.save(&seat(1)).unwrap();
    file.save(&seat(2)).unwrap();
    assert_eq!(folder.file("seat", 1).load().unwrap(), Some(seat(2)));
}

#[test]
fn a_crash_after_any_step_leaves_the_old_value_or_the_new_one_whole() {
    let (_outer, _folder, mut file) = opened();
    file.save(&seat(1)).unwrap();
    let bytes = file.encode(&seat(2)).unwrap();

    for written in 0..=bytes.len() {
        fs::write(file.path_beside(), &bytes[..written]).unwrap();
        assert_eq!(file.load().unwrap(), Some(seat(1)), "{written} bytes lay beside");
    }
    file.write_beside(&bytes).unwrap();
    assert_eq!(file.load().unwrap(), Some(seat(1)));
    file.put_in_place().unwrap();
    assert_eq!(file.load().unwrap(), Some(seat(2)));
    file.save(&seat(3)).unwrap();
    assert_eq!(file.load().unwrap(), Some(seat(3)));
}

#[test]
fn a_file_cut_short_anywhere_is_refused_and_named() {
    let (_outer, _folder, mut file) = opened();
    file.save(&seat(1)).unwrap();
    let whole = fs::read(file.path()).unwrap();
    for length in 0..whole.len() {
        fs::write(file.path(), &whole[..length]).unwrap();
        let error = file.load().unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{length} bytes: {error}");
        assert!(error.to_string().contains(file.path().to_str().unwrap()));
        assert!(error.to_string().contains("backup"));
    }
}

#[test]
fn a_file_with_any_one_bit_flipped_is_refused() {
    let (_outer, _folder, mut file) = opened();
    file.save(&seat(1)).unwrap();
    let whole = fs::read(file.path()).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = file.decode(&flipped).unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "bit {bit}: {error}");
    }
}

#[test]
fn a_sound_file_of_another_version_is_told_from_a_corrupt_one() {
    let (_outer, folder, mut file) = opened();
    file.save(&seat(1)).unwrap();
    let error = folder.file::<Seat>("seat", 2).load().unwrap_err();
    assert!(matches!(error, StateError::Version { found: 1, known: 2, .. }), "{error}");
}

#[test]
fn a_failed_save_leaves_the_old_value() {
    let (outer, folder, mut file) = opened();
    file.save(&seat(1)).unwrap();
    // What lies in the way is a folder, which neither root nor anybody can write to as a file.
    fs::create_dir(file.path_beside()).unwrap();
    assert!(matches!(file.save(&seat(2)).unwrap_err(), StateError::System { .. }));
    assert_eq!(file.load().unwrap(), Some(seat(1)));

    let mut large = folder.file::<String>("large", 1);
    let error = large.save(&"x".repeat(STATE_BYTES_MAX)).unwrap_err();
    assert!(matches!(error, StateError::Unfit { .. }), "{error}");
    assert!(!outer.path().join("state/large").exists());
    let long = "x".repeat(2 * STATE_BYTES_MAX);
    let mut larger = large.up_to(3 * STATE_BYTES_MAX);
    larger.save(&long).unwrap();
    assert_eq!(larger.load().unwrap(), Some(long));
    assert!(folder.file::<String>("large", 1).load().is_err(), "read with the usual bound");
}

#[test]
fn a_second_process_does_not_get_the_folder() {
    let (outer, folder, file) = opened();
    let path = outer.path().join("state");
    // A lock belongs to the open file, not to the process: a second opening stands for one.
    assert!(matches!(StateFolder::open(&path).unwrap_err(), StateError::InUse { .. }));
    drop(folder);
    assert!(matches!(StateFolder::open(&path).unwrap_err(), StateError::InUse { .. }));
    drop(file);
    StateFolder::open(&path).unwrap();
}

#[test]
fn a_folder_that_others_may_enter_is_refused_with_the_remedy() {
    let outer = tempfile::tempdir().unwrap();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = StateFolder::open(outer.path()).unwrap_err();
    assert!(matches!(error, StateError::FolderOpen { mode: 0o755, .. }), "{error}");
    assert!(error.to_string().contains("chmod 700"));
}

#[test]
fn files_and_folder_are_their_owners_alone() {
    let (outer, _folder, mut file) = opened();
    file.save(&seat(1)).unwrap();
    for path in [outer.path().join("state"), file.path()] {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes: Vec<u8>) {
        let lock = File::open("/dev/null").unwrap();
        let held = Held { path: PathBuf::from("/nowhere"), _lock: lock };
        let folder = StateFolder { held: Arc::new(held) };
        let file = folder.file::<Seat>("seat", 1);
        prop_assert!(file.decode(&bytes).is_err());
    }
}
