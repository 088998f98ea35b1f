//! What is wrong with a configuration, and where: collected, so that one run names all of it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;

use super::PROBLEMS_MAX;

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; zero where the problem has no place in the file.
    pub line: usize,
    /// Column in characters, from 1; zero where the problem has no place in the file.
    pub column: usize,
    /// The field's full name, `control.listen`; empty where it is the file as a whole.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An unknown field is named by its message already.
        if self.field.is_empty() || self.message.starts_with("unknown field") {
            return f.write_str(&self.message);
        }
        write!(f, "'{}': {}", self.field, self.message)
    }
}

/// Proof that a problem was recorded: a check without a result must hold one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told(());

/// Where a check records what it finds.
#[derive(Debug)]
pub struct Problems<'t> {
    path: PathBuf,
    text: &'t str,
    found: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(path: &Path, text: &'t str) -> Problems<'t> {
        Problems { path: path.to_owned(), text, found: Vec::new() }
    }

    /// The file that is being checked, for paths beside it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that what stands at `span` is wrong. The message says what to do as well.
    pub fn at(&mut self, span: Range<usize>, field: &str, message: impl Into<String>) -> Told {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        self.keep(Problem { line, column, field: field.to_owned(), message: message.into() })
    }

    /// Records a problem that no single place in the file shows.
    pub fn whole(&mut self, field: &str, message: impl Into<String>) -> Told {
        self.keep(Problem { line: 0, column: 0, field: field.to_owned(), message: message.into() })
    }

    /// Parses one written value, or records why it cannot be.
    ///
    /// # Errors
    /// The value is none of `T`; the problem has been recorded.
    pub fn parse<T>(&mut self, field: &str, written: &Spanned<String>) -> Result<T, Told>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let parsed = written.get_ref().parse::<T>();
        parsed.map_err(|error| self.at(written.span(), field, error.to_string()))
    }

    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        self.found
    }

    fn keep(&mut self, problem: Problem) -> Told {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(problem);
        }
        Told(())
    }
}

/// All problems of a file, one a line, each with its place.
pub(super) fn list(path: &Path, problems: &[Problem]) -> String {
    let path = path.display();
    let line = |problem: &Problem| match problem.line {
        0 => format!("{path}: {problem}"),
        line => format!("{path}:{line}:{}: {problem}", problem.column),
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}
