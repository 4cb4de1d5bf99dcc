//! Where configuration values come from: the file, the environment, the flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keys::{self, KEYS, Key};

/// Largest configuration file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line counted from 1.
    File {
        /// As it was named on the command line.
        path: Arc<Path>,
        /// The line.
        line: usize,
    },
    /// In an environment variable of this name.
    Env(String),
    /// In a flag of this name, with its dashes.
    Flag(String),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("built-in default"),
        }
    }
}

/// A value together with where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was given.
    pub origin: Origin,
}

impl<T> Located<T> {
    /// A value that nobody gave.
    pub fn by_default(value: T) -> Self {
        Self {
            value,
            origin: Origin::Default,
        }
    }
}

/// One scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// Its text: a string's contents, or a number's digits in base ten.
    pub(super) text: String,
    /// Its TOML type; `None` when it came as text from the environment or a flag.
    pub(super) toml_type: Option<&'static str>,
    /// Where it stands.
    pub(super) origin: Origin,
}

/// A value before it is understood: one scalar, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    /// The scalars.
    pub(super) items: Vec<Scalar>,
    /// Whether it was written as a list; text from outside the file never is.
    pub(super) is_list: bool,
    /// Where the whole stands.
    pub(super) origin: Origin,
}

impl Raw {
    /// A value from the environment or a flag.
    fn from_text(text: &str, origin: Origin) -> Self {
        Self {
            items: vec![Scalar {
                text: text.to_owned(),
                toml_type: None,
                origin: origin.clone(),
            }],
            is_list: false,
            origin,
        }
    }
}

/// Values of the environment and of flags; both override the file, flags override the environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Overrides {
    /// Values of a process environment. Variables of other names are left alone, empty ones count
    /// as unset. `node.name` cannot be overridden: `--node` picks a node.
    pub fn from_env(env: impl IntoIterator<Item = (String, String)>) -> Self {
        let env: BTreeMap<String, String> = env.into_iter().collect();
        let values = KEYS
            .iter()
            .filter(|key| key.path != "node.name")
            .filter_map(|key| {
                let name = key.env();
                let text = env.get(&name).filter(|text| !text.is_empty())?;
                Some((key.path, (text.clone(), Origin::Env(name))))
            })
            .collect();
        Self { values }
    }

    /// Adds the value of a flag, over whatever was there.
    pub fn set_flag(&mut self, key: &'static Key, text: String) {
        let origin = Origin::Flag(format!("--{}", key.flag()));
        self.values.insert(key.path, (text, origin));
    }

    /// Adds everything of `flags`, over whatever was there.
    #[must_use]
    pub fn with(mut self, flags: Self) -> Self {
        self.values.extend(flags.values);
        self
    }

    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether the key at `path` is overridden.
    pub fn has(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    /// The first flag that concerns one node only.
    pub(super) fn node_flag(&self) -> Option<&Origin> {
        self.values
            .iter()
            .filter(|(path, _)| path.starts_with("node."))
            .map(|(_, (_, origin))| origin)
            .find(|origin| matches!(origin, Origin::Flag(_)))
    }

    pub(super) fn get(&self, path: &str) -> Option<Raw> {
        self.values
            .get(path)
            .map(|(text, origin)| Raw::from_text(text, origin.clone()))
    }
}

/// Names of environment variables that look like settings of this program and are none, each with
/// the nearest that is one. They are worth a warning; an orchestrator may set such names for
/// reasons of its own, so they are no error.
pub fn unknown_variables<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'a str, Option<String>)> {
    const OTHERS: [&str; 6] = [
        "CURSORMESH_CONFIG",
        "CURSORMESH_NODE",
        "CURSORMESH_STATUS_URL",
        "CURSORMESH_LOG",
        "CURSORMESH_BIN",
        "CURSORMESH_PORT",
    ];
    let known: Vec<String> = KEYS.iter().map(Key::env).collect();
    names
        .into_iter()
        .filter(|name| name.starts_with("CURSORMESH_"))
        .filter(|name| !OTHERS.contains(name) && !known.iter().any(|known| known == name))
        .map(|name| {
            let near = keys::nearest(name, known.iter().map(String::as_str));
            (name, near.map(str::to_owned))
        })
        .collect()
}

/// A parsed file whose keys are all known; their values are not understood yet.
#[derive(Debug)]
pub(super) struct File {
    /// As it was named on the command line.
    pub(super) path: Arc<Path>,
    /// Keys outside `[[node]]`, by path.
    pub(super) values: BTreeMap<&'static str, Raw>,
    /// The `[[node]]` tables in order.
    pub(super) nodes: Vec<NodeTable>,
}

/// One `[[node]]` table.
#[derive(Debug)]
pub(super) struct NodeTable {
    /// Its keys by path, such as `node.web`.
    pub(super) values: BTreeMap<&'static str, Raw>,
    /// Where it begins.
    pub(super) origin: Origin,
}

impl File {
    /// Reads and parses the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |problem: String| {
            ConfigError::new(
                path.display(),
                None,
                problem,
                "name the cluster's file with --config FILE; `cursormesh dev` starts one node \
                 without any, and so does `serve` with --node NAME and --mesh IP:PORT",
            )
        };
        let meta =
            std::fs::metadata(path).map_err(|error| failed(format!("cannot read: {error}")))?;
        if meta.is_dir() {
            return Err(failed("is a directory, not a file".to_owned()));
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(failed(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let bytes = std::fs::read(path).map_err(|error| failed(format!("cannot read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            ConfigError::new(
                path.display(),
                None,
                "is not UTF-8 text",
                "save it as UTF-8",
            )
        })?;
        Self::parse(path, &text)
    }

    /// Parses the text of the file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source {
            path: path.into(),
            text,
        };
        let table = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        let mut file = Self {
            path: source.path.clone(),
            values: BTreeMap::new(),
            nodes: Vec::new(),
        };
        // Tables come sorted by key; the error to show is the first in the file.
        let mut errors = Vec::new();
        for (name, value) in table.get_ref() {
            source.top_level(&mut file, name, value, &mut errors);
        }
        match errors.into_iter().min_by_key(|(line, _)| *line) {
            Some((_, error)) => Err(error),
            None => Ok(file),
        }
    }

    /// The directory that relative paths in the file start from.
    pub(super) fn dir(&self) -> PathBuf {
        dir_of(&self.path)
    }
}

/// The directory a file is in; `.` for a bare name.
pub(super) fn dir_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The text of a file while it is parsed.
struct Source<'a> {
    path: Arc<Path>,
    text: &'a str,
}

type Errors = Vec<(usize, ConfigError)>;
type Name<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        1 + self.text.as_bytes()[..end]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line: self.line(offset),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let origin = self.origin(span.start);
        let word = self.text.get(span.clone()).unwrap_or_default().trim();
        let start = self.text[..span.start.min(self.text.len())]
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let whole_line = self.text[start..].lines().next().unwrap_or_default().trim();
        if error.message().contains("duplicate key") {
            let (problem, remedy) = if whole_line.starts_with("[node.") {
                (
                    format!("duplicate node `{word}`"),
                    "give each node a name of its own, in a `[[node]]` table with `name = \"…\"`",
                )
            } else {
                (
                    format!("duplicate key `{word}`"),
                    "a key and a section may stand only once in the file: remove one of them",
                )
            };
            return ConfigError::new(origin, None, problem, remedy);
        }
        ConfigError::new(
            origin,
            None,
            format!("not valid TOML: {} in `{whole_line}`", error.message()),
            "write `key = value`; text stands in double quotes, sections in [brackets]",
        )
    }

    fn top_level(
        &self,
        file: &mut File,
        name: &Name<'_>,
        value: &Spanned<DeValue<'_>>,
        errors: &mut Errors,
    ) {
        let word: &str = name.get_ref();
        let offset = name.span().start;
        let section_prefix = format!("{word}.");
        if word == "node" {
            self.nodes(file, offset, value, errors);
        } else if let Some(key) = keys::find(word) {
            self.key(&mut file.values, key, value, errors);
        } else if KEYS.iter().any(|key| key.path.starts_with(&section_prefix)) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    self.section(&mut file.values, word, table, errors);
                }
                other => self.push(
                    errors,
                    offset,
                    Some(word),
                    format!(
                        "is {}, but `{word}` is a section",
                        article(other.type_str())
                    ),
                    format!("write `[{word}]` on a line of its own and its keys below"),
                ),
            }
        } else {
            self.unknown(errors, offset, "", word);
        }
    }

    fn nodes(
        &self,
        file: &mut File,
        offset: usize,
        value: &Spanned<DeValue<'_>>,
        errors: &mut Errors,
    ) {
        let tables = value.get_ref().as_array();
        for item in tables.into_iter().flatten() {
            if let DeValue::Table(table) = item.get_ref() {
                let mut values = BTreeMap::new();
                self.section(&mut values, "node", table, errors);
                // The span of a table begins at its header, or at its first key.
                let origin = self.origin(item.span().start);
                file.nodes.push(NodeTable { values, origin });
            } else {
                self.not_a_node_table(errors, item.span().start);
            }
        }
        if tables.is_none() {
            self.not_a_node_table(errors, offset);
        }
    }

    fn not_a_node_table(&self, errors: &mut Errors, offset: usize) {
        self.push(
            errors,
            offset,
            Some("node"),
            "nodes are an array of tables".to_owned(),
            "begin each node with `[[node]]` and give it `name = \"n1\"`".to_owned(),
        );
    }

    fn section(
        &self,
        values: &mut BTreeMap<&'static str, Raw>,
        section: &str,
        table: &DeTable<'_>,
        errors: &mut Errors,
    ) {
        for (name, value) in table {
            let word: &str = name.get_ref();
            match keys::find(&format!("{section}.{word}")) {
                Some(key) => self.key(values, key, value, errors),
                None => self.unknown(errors, name.span().start, section, word),
            }
        }
    }

    fn key(
        &self,
        values: &mut BTreeMap<&'static str, Raw>,
        key: &'static Key,
        value: &Spanned<DeValue<'_>>,
        errors: &mut Errors,
    ) {
        let offset = value.span().start;
        let origin = self.origin(offset);
        let items: Option<Vec<Scalar>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().map(|item| self.scalar(item)).collect(),
            _ => self.scalar(value).map(|item| vec![item]),
        };
        let Some(items) = items else {
            self.push(
                errors,
                offset,
                Some(key.path),
                format!(
                    "{} is not possible here",
                    article(value.get_ref().type_str())
                ),
                format!("give {}", key.expects()),
            );
            return;
        };
        let raw = Raw {
            items,
            is_list: value.get_ref().is_array(),
            origin,
        };
        values.insert(key.path, raw);
    }

    fn scalar(&self, value: &Spanned<DeValue<'_>>) -> Option<Scalar> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                self.text.get(value.span()).unwrap_or_default().to_owned()
            }
            DeValue::Array(_) | DeValue::Table(_) => return None,
        };
        Some(Scalar {
            text,
            toml_type: Some(value.get_ref().type_str()),
            origin: self.origin(value.span().start),
        })
    }

    fn unknown(&self, errors: &mut Errors, offset: usize, section: &str, word: &str) {
        let prefix = if section.is_empty() {
            String::new()
        } else {
            format!("{section}.")
        };
        // What may stand here: the keys of this section, or top-level keys and sections.
        let mut here: Vec<&str> = KEYS
            .iter()
            .filter_map(|key| key.path.strip_prefix(&prefix))
            .map(|rest| rest.split('.').next().unwrap_or(rest))
            .collect();
        here.dedup();
        let elsewhere = KEYS
            .iter()
            .find(|key| key.path.rsplit('.').next() == Some(word))
            .map(|key| key.path);
        let shown = quoted(word);
        let remedy = if let Some(near) = keys::nearest(word, here.iter().copied()) {
            format!("did you mean `{prefix}{near}`?")
        } else if let Some(path) = elsewhere {
            format!("did you mean `{path}`, in another section?")
        } else {
            let place = if section.is_empty() {
                "at the top of the file".to_owned()
            } else if section == "node" {
                "in [[node]]".to_owned()
            } else {
                format!("in [{section}]")
            };
            format!("remove it; known {place}: {}", here.join(", "))
        };
        let problem = format!("unknown key `{prefix}{shown}`");
        self.push(errors, offset, None, problem, remedy);
    }

    fn push(
        &self,
        errors: &mut Errors,
        offset: usize,
        key: Option<&str>,
        problem: String,
        remedy: String,
    ) {
        let error = ConfigError::new(self.origin(offset), key, problem, remedy);
        errors.push((self.line(offset), error));
    }
}

/// A word from a file as it may be printed: escaped, and cut when it is long.
pub(super) fn quoted(word: &str) -> String {
    let short: String = word.chars().take(60).collect();
    let dots = if short.len() < word.len() { "…" } else { "" };
    format!("{}{dots}", short.escape_debug())
}

fn article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {type_name}")
}
