//! What is wrong with a policy file: every problem with its line, so that a file is mended in one round.

use std::{cell::RefCell, fmt, ops::Range};

/// One thing that is wrong with a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// The table, such as `purpose payments`.
    pub place: String,
    /// The rule that it breaks, and what would mend it.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.place, self.rule)
    }
}

/// Why a policy file is refused: all its problems, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    problems: Vec<Problem>,
}

impl PolicyError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Collects problems while a text is read.
pub(super) struct Findings {
    /// Where each line ends.
    ends: Vec<usize>,
    found: RefCell<Vec<Problem>>,
}

impl Findings {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { ends, found: RefCell::default() }
    }

    /// The line of a place in the text.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.ends.partition_point(|end| *end < span.start)
    }

    pub(super) fn add(&self, line: usize, place: &str, rule: impl Into<String>) {
        self.found.borrow_mut().push(Problem { line, place: place.to_owned(), rule: rule.into() });
    }

    /// Nothing found so far, or all of it.
    pub(super) fn finish(&self) -> Result<(), Vec<Problem>> {
        let mut found = self.found.take();
        found.sort_by_key(|problem| problem.line);
        if found.is_empty() { Ok(()) } else { Err(found) }
    }
}
