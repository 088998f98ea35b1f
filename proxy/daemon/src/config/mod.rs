//! From a file to a checked value: the first thing a daemon does.
//!
//! *Written* mirrors the file, denies unknown fields and checks nothing else; *checked* is what the
//! daemon runs on and cannot represent nonsense. Between them stands one function of the daemon's
//! own. Whatever is wrong is collected, so that one run names all that can be named, each with
//! file, line, column, field and remedy.

mod basics;
mod problem;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Deserializer, Spanned};

pub use basics::{Basics, WrittenControl, WrittenIdentity, WrittenLog, WrittenState};
pub use problem::{Problem, Problems, Told};

/// Longest configuration file: far above any real one, far below what would hurt.
pub const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most problems named in one go; what follows is usually an echo of the first.
pub const PROBLEMS_MAX: usize = 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error("{}: cannot be read; check the path and who may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is longer than [`CONFIG_BYTES_MAX`].
    #[error("{}: is longer than {CONFIG_BYTES_MAX} bytes; this is no configuration of ours", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file was read, and this is wrong with it.
    #[error("{}", problem::list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one, in the order of the file.
        problems: Vec<Problem>,
    },
}

/// Reads the file at `path` as a `W` and lets `check` make a `C` of it.
///
/// # Errors
/// Unreadable, too long, or invalid with every problem that could be named.
pub fn read<W: DeserializeOwned, C>(
    path: &Path,
    check: impl FnOnce(W, &mut Problems) -> Result<C, Told>,
) -> Result<C, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    parse(path, &bytes, check)
}

/// What [`read`] does once it has the bytes; pure. `path` is for messages and for relative paths.
///
/// # Errors
/// Invalid, with every problem that could be named.
pub fn parse<W: DeserializeOwned, C>(
    path: &Path,
    bytes: &[u8],
    check: impl FnOnce(W, &mut Problems) -> Result<C, Told>,
) -> Result<C, ConfigError> {
    let (text, broken_at) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(good).unwrap_or_default(), Some(error.valid_up_to()))
        }
    };
    let mut problems = Problems::new(path, text);
    let checked = match broken_at {
        Some(at) => Err(problems.at(
            at..at,
            "",
            "the file is not UTF-8 text from here on; save it as UTF-8",
        )),
        None => written(text, &mut problems).and_then(|written| check(written, &mut problems)),
    };
    match (checked, problems.into_sorted()) {
        (Ok(checked), problems) if problems.is_empty() => Ok(checked),
        (_, problems) => Err(ConfigError::Invalid { path: path.to_owned(), problems }),
    }
}

/// `relative` as seen from the folder of the configuration file, so that a bundle of files can be
/// moved as one.
#[must_use]
pub fn beside(config: &Path, relative: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(relative)
}

fn written<W: DeserializeOwned>(text: &str, problems: &mut Problems) -> Result<W, Told> {
    let (mut document, syntax) = DeTable::parse_recoverable(text);
    let mut told = None;
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        told = Some(problems.at(span, "", format!("is not TOML: {}", one_line(error.message()))));
    }
    if let Some(told) = told {
        return Err(told);
    }
    // An unknown field hides nothing else: it is taken out of the document and the rest is read
    // again. Any other error would, so that it ends the search.
    for _ in 0..PROBLEMS_MAX {
        let error = match W::deserialize(Deserializer::from(document.clone())) {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let mut field = Vec::new();
        locate(document.get_ref(), span.start, &mut field);
        let told = problems.at(span, &field.join("."), worded(error.message()));
        let unknown = error.message().starts_with("unknown field");
        if !unknown || !remove(document.get_mut(), &field) {
            return Err(told);
        }
    }
    Err(problems.at(0..0, "", "more problems follow; mend these first"))
}

/// Serde's words, in the form that all our messages have: what is wrong; what to do.
fn worded(message: &str) -> String {
    let message = one_line(message).replace('`', "'");
    if let Some((wrong, known)) = message.split_once(", expected ") {
        return format!("{wrong}; expected {known}");
    }
    match message.strip_prefix("missing field ") {
        Some(field) => format!("field {field} is missing; add it"),
        None => message,
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Collects the keys on the way to what stands at byte `at`.
fn locate(table: &DeTable<'_>, at: usize, way: &mut Vec<String>) {
    for (key, value) in table {
        let (key_span, value_span) = (key.span(), value.span());
        let inside = key_span.contains(&at) || value_span.contains(&at) || below(value, at);
        if inside {
            way.push(key.get_ref().to_string());
            if !key_span.contains(&at) {
                locate_in(value, at, way);
            }
            return;
        }
    }
}

fn locate_in(value: &Spanned<DeValue<'_>>, at: usize, way: &mut Vec<String>) {
    match value.get_ref() {
        DeValue::Table(table) => locate(table, at, way),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if item.span().contains(&at) || below(item, at) {
                    way.push(index.to_string());
                    locate_in(item, at, way);
                    return;
                }
            }
        }
        _ => {}
    }
}

/// A table's own span is its header alone: its fields lie outside.
fn below(value: &Spanned<DeValue<'_>>, at: usize) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => table.iter().any(|(key, value)| {
            key.span().contains(&at) || value.span().contains(&at) || below(value, at)
        }),
        DeValue::Array(items) => {
            items.iter().any(|item| item.span().contains(&at) || below(item, at))
        }
        _ => false,
    }
}

fn remove(table: &mut DeTable<'_>, way: &[String]) -> bool {
    let Some((first, rest)) = way.split_first() else { return false };
    if rest.is_empty() {
        let found = table.keys().find(|key| key.get_ref() == first).cloned();
        return found.is_some_and(|key| table.remove(&key).is_some());
    }
    let next = table.iter_mut().find(|(key, _)| key.get_ref() == first);
    next.is_some_and(|(_, value)| remove_in(value.get_mut(), rest))
}

fn remove_in(value: &mut DeValue<'_>, way: &[String]) -> bool {
    match value {
        DeValue::Table(table) => remove(table, way),
        DeValue::Array(items) => {
            let Some((index, rest)) = way.split_first() else { return false };
            let item = index.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            item.is_some_and(|item| remove_in(item.get_mut(), rest))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
