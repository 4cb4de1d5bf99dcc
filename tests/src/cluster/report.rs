//! What a scenario found, in numbers and in words.

use std::fmt;
use std::time::Duration;

/// The outcome of one scenario.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What users must not see and did.
    pub problems: Vec<String>,
    /// What the users saw, if all went well.
    pub saw: String,
    /// Why it was not carried out here.
    pub skipped: Option<String>,
}

/// One measured number.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it measures.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The most it may be, if there is a bound.
    pub max: Option<f64>,
}

impl Report {
    /// A report of a scenario that cannot be carried out here.
    pub fn skipped(why: String) -> Self {
        Self {
            skipped: Some(why),
            ..Self::default()
        }
    }

    /// Adds a duration in seconds; `max` is the bound in seconds.
    pub fn seconds(&mut self, name: &str, value: Duration, max: Option<f64>) {
        self.figure(name, value.as_secs_f64(), "s", max);
    }

    /// Adds a number.
    pub fn figure(&mut self, name: &str, value: f64, unit: &'static str, max: Option<f64>) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            max,
        });
    }

    /// Adds a problem unless `holds`.
    pub fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Whether users saw nothing they must not see, and every bound was kept.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.figures.iter().all(Figure::is_within)
    }

    /// Whether all that was missed is an age of milliseconds, which a machine that did something else
    /// for a moment misses too. Nothing that is lost, doubled or late by seconds is forgiven by it.
    pub fn missed_ages_only(&self) -> bool {
        let mut missed = self.figures.iter().filter(|figure| !figure.is_within());
        self.problems.is_empty() && !self.is_good() && missed.all(|figure| figure.unit == "ms")
    }
}

impl Figure {
    /// Whether the bound, if there is one, was kept.
    pub fn is_within(&self) -> bool {
        self.max.is_none_or(|max| self.value <= max)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value.fract() == 0.0 { 0 } else { 2 };
        write!(f, "{} {:.digits$} {}", self.name, self.value, self.unit)?;
        match self.max {
            Some(max) if self.is_within() => write!(f, " (≤ {max})"),
            Some(max) => write!(f, " (MISSED: at most {max})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.skipped {
            return write!(f, "SKIPPED: {why}");
        }
        write!(f, "{}", self.saw)?;
        for figure in &self.figures {
            write!(f, "; {figure}")?;
        }
        for problem in &self.problems {
            write!(f, "\n    PROBLEM: {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use std::time::Duration;

    #[test]
    fn only_milliseconds_may_be_the_machine() {
        let mut report = Report::default();
        report.figure("age", 10.0, "ms", Some(16.0));
        assert!(report.is_good() && !report.missed_ages_only());
        report.figure("age during", 17.0, "ms", Some(16.0));
        assert!(!report.is_good() && report.missed_ages_only());
        let mut late = report.clone();
        late.seconds("gone after", Duration::from_secs(6), Some(5.0));
        assert!(!late.missed_ages_only());
        let mut lost = report;
        lost.expect(false, || "a message is missing".into());
        assert!(!lost.missed_ages_only());
    }
}
