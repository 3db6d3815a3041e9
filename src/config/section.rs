//! A typed reader over one table of the file. It knows from the schema what may stand there, and collects every problem instead of
//! stopping at the first: a getter that returns `None` for a key that is present or required has said why.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::{Complaint, Problem, quote};
use crate::config::schema::{self, Key, Kind, Presence, Table};
use crate::config::{suggest, value};

/// What all sections of one file share.
pub(super) struct Reader<'a> {
    text: &'a str,
    base: &'a Path,
    problems: RefCell<Vec<Problem>>,
}

/// One table, present or left out.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    schema: &'static Table,
    path: String,
    line: Option<usize>,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, base: &'a Path) -> Self {
        Self { text, base, problems: RefCell::default() }
    }

    pub(super) fn root(&'a self, table: &'a Spanned<DeTable<'a>>) -> Section<'a> {
        Section::open(self, &schema::ROOT, String::new(), Some(1), table.get_ref())
    }

    /// The problems so far, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    fn line<T>(&self, spanned: &Spanned<T>) -> usize {
        line_at(self.text, spanned.span().start)
    }
}

/// Line of a byte offset, from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl<'a> Section<'a> {
    /// Opens a table that is present: says which keys do not belong there and which are missing.
    fn open(reader: &'a Reader<'a>, schema: &'static Table, path: String, line: Option<usize>, table: &'a DeTable<'a>) -> Self {
        let section = Self { reader, schema, path, line, table: Some(table) };
        for (name, value) in table {
            let line = Some(reader.line(name));
            let name = name.get_ref();
            match schema.key(name) {
                Some(Key { presence: Presence::Later(remedy), .. }) => {
                    section.push(section.key_path(name), line, "not available in this version", *remedy);
                }
                Some(_) => {}
                None => {
                    let remedy = suggest::for_key(schema, &section.path, name, value.get_ref());
                    section.push(section.key_path(&suggest::show_key(name)), line, "unknown key", remedy);
                }
            }
        }
        for key in schema.keys.iter().filter(|key| key.presence == Presence::Required && table.get(key.name).is_none()) {
            let (message, remedy) = match key.kind {
                Kind::Table(_) => ("missing table", format!("add it: {}", key.about)),
                Kind::Tables(_) => {
                    ("missing: there must be at least one such table", format!("add [[{}]]: {}", key.name, key.about))
                }
                _ => ("missing", format!("add it: {}", key.about)),
            };
            section.push(section.key_path(key.name), section.line, message, remedy);
        }
        section
    }

    /// Whether the key is written in the file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A problem with one key of this table.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let line = self.raw(name).map(|value| self.reader.line(value)).or(self.line);
        self.push(self.key_path(name), line, message, remedy);
    }

    /// A key that has no meaning beside what else this table says.
    pub(super) fn refuse(&self, name: &str, why: &str) {
        if self.has(name) {
            self.problem(name, why, "remove it");
        }
    }

    /// A key that is needed because of what else this table says.
    pub(super) fn need(&self, name: &str, why: &str) {
        if !self.has(name) {
            let about = self.schema.key(name).map_or("", |key| key.about);
            self.problem(name, format!("missing: {why}"), format!("add it: {about}"));
        }
    }

    /// A text key, read by `parse`; its default if it is left out.
    pub(super) fn text<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        match self.raw(name) {
            Some(value) => self.settle(name, value, string(value).and_then(parse)),
            None => parse(self.default(name)?).ok(),
        }
    }

    /// A file or directory.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name, |text| value::path(text, self.reader.base))
    }

    /// A list of files; an empty list counts as a mistake where the key is required.
    pub(super) fn paths(&self, name: &str) -> Option<Vec<PathBuf>> {
        self.texts(name, |text| value::path(text, self.reader.base))
    }

    /// A list of texts, each read by `parse`. Only a list whose default is empty may be written empty.
    pub(super) fn texts<T: PartialEq>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Complaint>) -> Option<Vec<T>> {
        let Some(written) = self.raw(name) else {
            return (self.default(name)? == "[]").then(Vec::new);
        };
        let Some(items) = written.get_ref().as_array() else {
            self.wrong_type(name, written, "a list of texts in quotes");
            return None;
        };
        if items.is_empty() && self.default(name) != Some("[]") {
            self.problem(name, "the list is empty", "name at least one, or leave the key out where that is allowed");
            return None;
        }
        let mut all = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let name = format!("{name}[{index}]");
            if let Some(parsed) = self.settle(&name, item, string(item).and_then(&parse)) {
                if all.contains(&parsed) {
                    self.push(self.key_path(&name), Some(self.reader.line(item)), "listed twice", "remove one");
                }
                all.push(parsed);
            }
        }
        (all.len() == items.len()).then_some(all)
    }

    /// A list of texts that may be left out; what is left out is empty.
    pub(super) fn texts_if_any<T: PartialEq>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Complaint>) -> Option<Vec<T>> {
        if self.has(name) { self.texts(name, parse) } else { Some(Vec::new()) }
    }

    /// A list of files that may be left out; what is left out is empty.
    pub(super) fn paths_if_any(&self, name: &str) -> Option<Vec<PathBuf>> {
        self.texts_if_any(name, |text| value::path(text, self.reader.base))
    }

    /// `true` or `false`.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        let Some(value) = self.raw(name) else { return self.default(name)?.parse().ok() };
        let read = value.get_ref().as_bool();
        if read.is_none() {
            self.wrong_type(name, value, "true or false, without quotes");
        }
        read
    }

    /// A duration within the schema's bounds.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        self.duration_or(name, None)
    }

    /// A duration, with another default than the schema's.
    pub(super) fn duration_or(&self, name: &str, default: Option<&'static str>) -> Option<Duration> {
        let Some(written) = self.raw(name) else { return value::duration(default.or(self.default(name))?).ok() };
        let duration = self.settle(name, written, string(written).and_then(value::duration))?;
        let Some(Key { kind: Kind::Duration(min, max), .. }) = self.schema.key(name) else { return None };
        self.within(name, &duration, min, max, |bound| value::show_duration(*bound))
    }

    /// A number of bytes within the schema's bounds.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        let Some(written) = self.raw(name) else { return value::size(self.default(name)?).ok() };
        let parsed = match written.get_ref() {
            DeValue::Integer(_) => integer(written),
            _ => string(written).and_then(value::size),
        };
        let size = self.settle(name, written, parsed)?;
        let Some(Key { kind: Kind::Size(min, max), .. }) = self.schema.key(name) else { return None };
        self.within(name, &size, min, max, |bound| value::show_size(*bound))
    }

    /// A number within the schema's bounds.
    pub(super) fn count(&self, name: &str) -> Option<usize> {
        let Some(written) = self.raw(name) else { return self.default(name)?.parse().ok() };
        let count = self.settle(name, written, integer(written))?;
        let Some(Key { kind: Kind::Count(min, max), .. }) = self.schema.key(name) else { return None };
        self.within(name, &count, min, max, u64::to_string).and_then(|count| usize::try_from(count).ok())
    }

    /// A size that is kept in memory.
    pub(super) fn size_in_memory(&self, name: &str) -> Option<usize> {
        self.size(name).and_then(|size| usize::try_from(size).ok())
    }

    /// A list of relative identifiers.
    pub(super) fn rids(&self, name: &str) -> Option<Vec<u32>> {
        let Some(written) = self.raw(name) else {
            return self.default(name)?.split(", ").map(|rid| rid.parse().ok()).collect();
        };
        let Some(items) = written.get_ref().as_array() else {
            self.wrong_type(name, written, "a list of numbers");
            return None;
        };
        let rid = |item: &Spanned<DeValue<'_>>| {
            let number = integer(item)?;
            u32::try_from(number)
                .map_err(|_| Complaint::new(format!("{number} is not a relative identifier"), "write the last number of the SID"))
        };
        let read = items.iter().enumerate().map(|(index, item)| self.settle(&format!("{name}[{index}]"), item, rid(item)));
        read.collect::<Vec<_>>().into_iter().collect()
    }

    /// One of the schema's words.
    pub(super) fn choice(&self, name: &str) -> Option<&'static str> {
        let Some(Key { kind: Kind::Choice(now, later), .. }) = self.schema.key(name) else { return None };
        let Some(written) = self.raw(name) else { return self.default(name) };
        let choose = |text: &str| {
            if let Some(word) = now.iter().find(|word| **word == text) {
                return Ok(*word);
            }
            let words = now.join(", ");
            if later.contains(&text) {
                return Err(Complaint::new(format!("{text:?} is not available in this version"), format!("one of: {words}")));
            }
            let remedy = match suggest::nearest(text, now.iter().copied()) {
                Some(word) => format!("did you mean {word:?}? One of: {words}"),
                None => format!("one of: {words}"),
            };
            Err(Complaint::new(format!("{} is not a value of this key", quote(text)), remedy))
        };
        self.settle(name, written, string(written).and_then(choose))
    }

    /// The text of a key, if it is one, without judging it.
    pub(super) fn peek(&self, name: &str) -> Option<&'a str> {
        self.raw(name).and_then(|value| value.get_ref().as_str())
    }

    /// A table below this one; an optional one that is left out reads as its defaults.
    pub(super) fn table(&self, name: &str) -> Option<Self> {
        let key = self.schema.key(name)?;
        let schema = key.table()?;
        match self.raw(name) {
            Some(value) => self.open_value(schema, name, value),
            None if key.presence == Presence::Required => None,
            None => Some(Self { reader: self.reader, schema, path: self.key_path(name), line: self.line, table: None }),
        }
    }

    /// The tables of a list, `[[name]]`.
    pub(super) fn tables(&self, name: &str) -> Vec<Self> {
        let (Some(value), Some(schema)) = (self.raw(name), self.schema.key(name).and_then(Key::table)) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.problem(name, "expected a list of tables", format!("write [[{}]], with two brackets", self.key_path(name)));
            return Vec::new();
        };
        if items.is_empty() {
            self.problem(name, "the list is empty", format!("write [[{}]] tables", self.key_path(name)));
        }
        items.iter().enumerate().filter_map(|(index, item)| self.open_value(schema, &format!("{name}[{index}]"), item)).collect()
    }

    /// The tables below a key by their names, with each name's section.
    pub(super) fn named(&self, name: &str) -> Vec<(&'a str, Self)> {
        let (Some(value), Some(schema)) = (self.raw(name), self.schema.key(name).and_then(Key::table)) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            self.wrong_type(name, value, "tables by name");
            return Vec::new();
        };
        let open = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let key: &'a std::borrow::Cow<'a, str> = key.get_ref();
            Some((&**key, self.open_value(schema, &format!("{name}.{key:?}"), value)?))
        };
        tables.iter().filter_map(open).collect()
    }

    /// A problem with this table itself.
    pub(super) fn problem_here(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(self.path.clone(), self.line, message, remedy);
    }

    fn open_value(&self, schema: &'static Table, name: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        let line = Some(self.reader.line(value));
        let path = self.key_path(name);
        if let Some(table) = value.get_ref().as_table() {
            return Some(Self::open(self.reader, schema, path, line, table));
        }
        let found = kind_of(value.get_ref());
        self.push(path, line, format!("expected a table, found {found}"), "write its keys below a [header], or between { and }");
        None
    }

    fn raw(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(name)
    }

    fn default(&self, name: &str) -> Option<&'static str> {
        match self.schema.key(name)?.presence {
            Presence::Default(value) => Some(value),
            _ => None,
        }
    }

    fn within<T: PartialOrd + Copy>(&self, name: &str, value: &T, min: &T, max: &T, show: impl Fn(&T) -> String) -> Option<T> {
        if value < min || value > max {
            let message = format!("{} is out of range", show(value));
            self.problem(name, message, format!("from {} to {}", show(min), show(max)));
            return None;
        }
        Some(*value)
    }

    fn wrong_type(&self, name: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        self.problem(name, format!("expected {expected}, found {}", kind_of(value.get_ref())), "write it in that form");
    }

    fn settle<T>(&self, name: &str, value: &Spanned<DeValue<'_>>, parsed: Result<T, Complaint>) -> Option<T> {
        parsed
            .map_err(|complaint| {
                self.push(self.key_path(name), Some(self.reader.line(value)), complaint.message, complaint.remedy);
            })
            .ok()
    }

    fn key_path(&self, name: &str) -> String {
        schema::join(&self.path, name)
    }

    fn push(&self, key: String, line: Option<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem { key, line, message: message.into(), remedy: remedy.into() };
        self.reader.problems.borrow_mut().push(problem);
    }
}

fn string<'a>(value: &'a Spanned<DeValue<'_>>) -> Result<&'a str, Complaint> {
    let found = value.get_ref();
    found.as_str().ok_or_else(|| Complaint::new(format!("expected text, found {}", kind_of(found)), "write it in quotes"))
}

fn integer(value: &Spanned<DeValue<'_>>) -> Result<u64, Complaint> {
    let found = value.get_ref();
    let number = found.as_integer().ok_or_else(|| {
        Complaint::new(format!("expected a number, found {}", kind_of(found)), "write a whole number without quotes")
    })?;
    u64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| Complaint::new("the number is negative or too large", "write a whole number that is not negative"))
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
