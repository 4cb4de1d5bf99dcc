//! What came of it: tables for people, and the same as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cluster::report::{Figure, Report};

/// One part of what was tried.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name on the command line.
    pub name: &'static str,
    /// What was done.
    pub what: String,
    /// A table in Markdown, if there is one.
    pub table: Option<Table>,
    /// Figures with their goals, problems, and what people saw.
    pub report: Report,
}

/// Rows under a head.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The head.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

/// Everything that was tried.
#[derive(Debug, Clone, Default)]
pub struct Tale {
    /// The parts in order.
    pub parts: Vec<Part>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|word| (*word).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.head);
        let _ = writeln!(text, "|{}", "---|".repeat(self.head.len()));
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

impl Part {
    /// What a part found, in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}: {}\n\n", self.name, self.what);
        if let Some(table) = &self.table {
            text.push_str(&table.markdown());
            text.push('\n');
        }
        if !self.report.saw.is_empty() {
            let _ = writeln!(text, "{}\n", self.report.saw);
        }
        for figure in &self.report.figures {
            let _ = writeln!(text, "- {figure}");
        }
        for problem in &self.report.problems {
            let _ = writeln!(text, "- PROBLEM: {problem}");
        }
        text
    }

    fn json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "name": figure.name, "value": figure.value, "unit": figure.unit, "max": figure.max,
                "met": figure.is_within(),
            })
        };
        let rows = self.table.as_ref().map(|table| {
            let row = |row: &Vec<String>| -> Value {
                table
                    .head
                    .iter()
                    .cloned()
                    .zip(row.iter().cloned().map(Value::from))
                    .collect()
            };
            table.rows.iter().map(row).collect::<Vec<Value>>()
        });
        json!({
            "part": self.name, "what": self.what, "saw": self.report.saw,
            "figures": self.report.figures.iter().map(figure).collect::<Vec<_>>(),
            "problems": self.report.problems, "table": rows, "good": self.report.is_good(),
        })
    }
}

impl Tale {
    /// Whether every goal was met and nobody saw what must not be.
    pub fn is_good(&self) -> bool {
        self.parts.iter().all(|part| part.report.is_good())
    }

    /// Everything in Markdown: the parts, then each goal.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            let _ = writeln!(text, "{}", part.markdown());
        }
        let mut goals = Table::new(&["part", "goal", "at most", "measured", ""]);
        for part in &self.parts {
            for figure in &part.report.figures {
                let Some(max) = figure.max else { continue };
                let verdict = if figure.is_within() { "met" } else { "MISSED" };
                goals.rows.push(vec![
                    part.name.to_owned(),
                    figure.name.clone(),
                    format!("{} {}", round(max), figure.unit),
                    format!("{} {}", round(figure.value), figure.unit),
                    verdict.to_owned(),
                ]);
            }
            for problem in &part.report.problems {
                goals.rows.push(vec![
                    part.name.to_owned(),
                    problem.clone(),
                    "never".to_owned(),
                    "seen".to_owned(),
                    "MISSED".to_owned(),
                ]);
            }
        }
        let _ = write!(text, "## goals\n\n{}", goals.markdown());
        text
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let parts: Vec<Value> = self.parts.iter().map(Part::json).collect();
        json!({"parts": parts, "good": self.is_good()})
    }
}

/// At most two digits after the point, and none that say nothing.
pub fn round(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_told_in_both_forms() {
        let mut report = Report::default();
        report.figure("copies", 2.0, "", Some(1.1));
        report.figure("age", 10.0, "ms", Some(20.0));
        report.figure("no goal", 1.0, "", None);
        let tale = Tale {
            parts: vec![Part {
                name: "bytes",
                what: "nothing".to_owned(),
                table: None,
                report,
            }],
        };
        assert!(!tale.is_good());
        let text = tale.markdown();
        assert!(
            text.contains("| bytes | copies | 1.1  | 2  | MISSED |"),
            "{text}"
        );
        assert!(
            text.contains("| bytes | age | 20 ms | 10 ms | met |"),
            "{text}"
        );
        assert_eq!(tale.json()["parts"][0]["figures"][0]["met"], false);
        assert_eq!(tale.json()["good"], false);
    }

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        assert_eq!(
            [round(1.0), round(0.256), round(100.0)],
            ["1", "0.26", "100"]
        );
    }
}
