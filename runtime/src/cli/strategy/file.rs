//! The strategies file: which plugin a strategy is, what it may take, and its configuration.
//!
//! TOML with the tables `[retention]`, `[splitting]` and `[scheduling]`, each with `plugin` (a
//! path, relative to the file), `blake3`, `memory`, `fuel`, `deadline` and the table
//! `configuration`, all optional. A key that is not known is an error, with its line: a limit or a
//! pin with a typing error must not count as none. Memory: the file as a tree, a few megabytes for
//! the largest.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::cli::arguments::{parse_duration, parse_size};
use crate::cli::error::CliError;
use crate::memory::MemoryPlan;
use crate::plugin::{Configuration, PluginOptions, PluginSource};

/// Largest file: three configurations, and then some.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// A strategies file.
#[derive(Debug)]
pub(in crate::cli) struct StrategiesFile {
    path: PathBuf,
    text: String,
    tables: Tables,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    retention: Option<Spanned<Table>>,
    splitting: Option<Spanned<Table>>,
    scheduling: Option<Spanned<Table>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    plugin: Option<Spanned<PathBuf>>,
    blake3: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    fuel: Option<Spanned<u64>>,
    deadline: Option<Spanned<String>>,
    configuration: Option<Spanned<toml::Table>>,
}

impl StrategiesFile {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, is too large, or is not as it must be.
    pub(in crate::cli) fn read(path: &Path) -> Result<Self, CliError> {
        let refuse = |reason: String| CliError::StrategiesFile {
            path: path.to_owned(),
            reason,
        };
        let mut text = String::new();
        let metadata = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !metadata.is_file() {
            return Err(refuse("not a regular file".into()));
        }
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(|error| refuse(error.to_string()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(refuse(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        let parsed = toml::from_str(&text).map_err(|error| {
            let line = line_of(&text, error.span().unwrap_or_default());
            refuse(format!("line {line}: {}", error.message()))
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            tables: parsed,
        })
    }

    /// Gives a strategy what the file says of it.
    ///
    /// # Errors
    /// A value that cannot be used, with its line.
    pub(super) fn apply(
        &self,
        strategy: &str,
        options: &mut PluginOptions,
        memory: &MemoryPlan,
    ) -> Result<(), CliError> {
        if let Some(table) = self.table(strategy) {
            self.apply_source(table.get_ref(), options)?;
        }
        self.apply_limits(strategy, options, memory)
    }

    fn table(&self, strategy: &str) -> Option<&Spanned<Table>> {
        let tables = &self.tables;
        match strategy {
            "retention" => tables.retention.as_ref(),
            "splitting" => tables.splitting.as_ref(),
            _ => tables.scheduling.as_ref(),
        }
    }

    /// Gives a strategy the limits and the configuration of the file, not its plugin and pin.
    ///
    /// # Errors
    /// A value that cannot be used, with its line.
    pub(in crate::cli) fn apply_limits(
        &self,
        strategy: &str,
        options: &mut PluginOptions,
        memory: &MemoryPlan,
    ) -> Result<(), CliError> {
        let Some(spanned) = self.table(strategy) else {
            return Ok(());
        };
        let table = spanned.get_ref();
        let limits = &mut options.limits;
        if let Some(size) = &table.memory {
            limits.memory_bytes = parse_size(size.get_ref())
                .map_err(|why| self.refuse(size.span(), format!("memory: {why}")))?;
        }
        if let Some(fuel) = &table.fuel {
            limits.fuel = *fuel.get_ref();
        }
        if let Some(deadline) = &table.deadline {
            limits.deadline = parse_duration(deadline.get_ref())
                .map_err(|why| self.refuse(deadline.span(), format!("deadline: {why}")))?;
        }
        limits
            .check(memory.plugin_bytes_max())
            .map_err(|why| self.refuse(spanned.span(), format!("[{strategy}]: {why}")))?;
        if let Some(configuration) = &table.configuration {
            let refuse = |why| self.refuse(configuration.span(), format!("configuration: {why}"));
            let text = json(configuration.get_ref()).map_err(refuse)?;
            options.configuration = Some(Configuration::parse(&text).map_err(refuse)?);
        }
        Ok(())
    }

    fn apply_source(&self, table: &Table, options: &mut PluginOptions) -> Result<(), CliError> {
        let pin = match &table.blake3 {
            None => None,
            Some(pin) => {
                let mut digest = [0; 32];
                if hex::decode_to_slice(pin.get_ref(), &mut digest).is_err() {
                    let why = "blake3: expected 64 hex digits";
                    return Err(self.refuse(pin.span(), why.into()));
                }
                if table.plugin.is_none() {
                    let why = "blake3: there is no plugin that it pins";
                    return Err(self.refuse(pin.span(), why.into()));
                }
                Some(digest)
            }
        };
        if let Some(plugin) = &table.plugin {
            let folder = self.path.parent().unwrap_or(Path::new(""));
            options.source = PluginSource::File {
                path: folder.join(plugin.get_ref()),
                blake3: pin,
            };
        }
        Ok(())
    }

    fn refuse(&self, place: Range<usize>, reason: String) -> CliError {
        let line = line_of(&self.text, place);
        CliError::StrategiesFile {
            path: self.path.clone(),
            reason: format!("line {line}: {reason}"),
        }
    }
}

/// Returns the line that a place of a text is in, from 1.
fn line_of(text: &str, place: Range<usize>) -> usize {
    let before = text.as_bytes().iter().take(place.start);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// Turns a table into JSON: its dates and times become texts, numbers must be finite.
fn json(table: &toml::Table) -> Result<String, String> {
    let value = toml::Value::Table(table.clone());
    let json = json_value(&value)?;
    Ok(json.to_string())
}

fn json_value(value: &toml::Value) -> Result<serde_json::Value, String> {
    use serde_json::Value;
    Ok(match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => Value::Number(number),
            None => return Err(format!("{number} is no number of JSON")),
        },
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => {
            Value::Array(items.iter().map(json_value).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(members) => {
            let member = |(name, value): (&String, _)| Ok((name.clone(), json_value(value)?));
            Value::Object(members.iter().map(member).collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::memory::MIB;

    fn memory() -> MemoryPlan {
        MemoryPlan::new(64 * MIB).unwrap()
    }

    fn read(text: &str) -> Result<(PathBuf, StrategiesFile), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strategies.toml");
        std::fs::write(&path, text).unwrap();
        match StrategiesFile::read(&path) {
            Ok(file) => Ok((folder.path().to_owned(), file)),
            Err(error) => {
                assert_eq!(error.code(), "strategies-file");
                Err(error.to_string())
            }
        }
    }

    fn apply(text: &str, strategy: &str) -> Result<(PathBuf, PluginOptions), String> {
        let (folder, file) = read(text)?;
        let mut options = PluginOptions::default();
        let applied = file.apply(strategy, &mut options, &memory());
        applied.map_err(|error| error.to_string())?;
        Ok((folder, options))
    }

    const WHOLE: &str = r#"
        [scheduling]
        plugin = "plugins/at_night.wasm"
        blake3 = "abababababababababababababababababababababababababababababababab"
        memory = "16MiB"
        fuel = 2_000_000_000
        deadline = "10s"

        [scheduling.configuration]
        begins = 22
        share = 0.5
        tenants = ["a", { name = "b", since = 2026-01-02 }]

        [splitting]
        deadline = "500ms"
    "#;

    #[test]
    fn a_whole_table_is_taken() {
        let (folder, options) = apply(WHOLE, "scheduling").unwrap();
        let path = folder.join("plugins/at_night.wasm");
        let blake3 = Some([0xab; 32]);
        assert_eq!(options.source, PluginSource::File { path, blake3 });
        assert_eq!(options.limits.memory_bytes, 16 * MIB);
        assert_eq!(options.limits.fuel, 2_000_000_000);
        assert_eq!(options.limits.deadline, Duration::from_secs(10));
        assert_eq!(
            options.configuration.unwrap().text(),
            r#"{"begins":22,"share":0.5,"tenants":["a",{"name":"b","since":"2026-01-02"}]}"#
        );
        let (_, options) = apply(WHOLE, "splitting").unwrap();
        assert_eq!(options.source, PluginSource::Builtin);
        assert_eq!(options.limits.deadline, Duration::from_millis(500));
        let (_, options) = apply(WHOLE, "retention").unwrap();
        assert_eq!(options.limits, PluginOptions::default().limits);
        assert!(options.configuration.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let alone = format!("[scheduling]\nblake3 = \"{}\"", "00".repeat(32));
        for (text, words) in [
            ("[scheduling]\nplugin = 5\n", "line 2: "),
            ("\n[schedule]\n", "line 2: unknown field `schedule`"),
            ("[scheduling]\n\nfule = 5\n", "line 3: unknown field `fule`"),
            ("[scheduling\n", "line 1: "),
            (
                "[scheduling]\nmemory = \"much\"\n",
                "line 2: memory: expected",
            ),
            ("[scheduling]\nmemory = \"512MiB\"\n", "leaves 65536 to"),
            ("[scheduling]\nfuel = 1\n", "[scheduling]: a fuel of 1"),
            ("[scheduling]\nfuel = -1\n", "line 2: "),
            (
                "[scheduling]\ndeadline = \"5\"\n",
                "line 2: deadline: expected",
            ),
            (
                "[scheduling]\ndeadline = \"5h\"\n",
                "a deadline of 18000000 ms",
            ),
            (
                "[scheduling]\ndeadline = \"5d\"\n",
                "line 2: deadline: expected",
            ),
            (
                "[scheduling]\ndeadline = \"500s\"\n",
                "a deadline of 500000 ms",
            ),
            (
                "[scheduling]\nblake3 = \"ab\"\n",
                "line 2: blake3: expected",
            ),
            (&*alone, "line 2: blake3: there is no plugin"),
            ("[scheduling]\nconfiguration = 5\n", "line 2: "),
            (
                "[scheduling.configuration]\na = nan\n",
                "configuration: NaN is no number",
            ),
        ] {
            let told = apply(text, "scheduling").map(drop).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
            assert!(told.contains("strategies.toml: line "), "{told}");
        }
        let long = format!(
            "[scheduling.configuration]\na = \"{}\"\n",
            "x".repeat(70_000)
        );
        let told = apply(&long, "scheduling").map(drop).unwrap_err();
        assert!(
            told.contains("line 1: configuration: 70008 bytes"),
            "{told}"
        );
        let huge = "#".repeat(300_000);
        assert!(read(&huge).map(drop).unwrap_err().contains("larger than"));
        let missing = StrategiesFile::read(Path::new("/does/not/exist")).unwrap_err();
        assert_eq!(missing.code(), "strategies-file");
        let folder = StrategiesFile::read(Path::new("/")).unwrap_err();
        assert!(folder.to_string().contains("not a regular file"));
    }
}
