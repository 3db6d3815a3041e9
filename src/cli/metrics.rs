//! Metrics for Prometheus, gathered from the rooms when they are written: a text file for the node exporter's textfile collector.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Something that says its figures when it is asked.
pub(in crate::cli) trait Source: Send + Sync {
    /// Adds its metrics, with their values of now.
    fn add_to(&self, registry: &mut Registry);
}

/// All metrics as text (OpenMetrics 1.0, which Prometheus' text format readers take).
pub(in crate::cli) fn render(sources: &[&dyn Source]) -> String {
    let mut registry = Registry::with_prefix("kcd_bridge");
    for source in sources {
        source.add_to(&mut registry);
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// Replaces the file at once: a reader sees the old one or the new one.
pub(in crate::cli) fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = path.with_file_name(temporary);
    // Others may write there: a link that somebody planted is replaced, not followed.
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::ConstGauge;

    use super::*;

    struct One;

    impl Source for One {
        fn add_to(&self, registry: &mut Registry) {
            registry.register("answer", "What it is", ConstGauge::new(42_i64));
        }
    }

    #[test]
    fn metrics_are_named_after_the_bridge_and_explained() {
        let text = render(&[&One]);
        assert!(text.contains("# HELP kcd_bridge_answer What it is.\n"), "{text}");
        assert!(text.contains("\nkcd_bridge_answer 42\n"), "{text}");
    }

    #[test]
    fn a_link_in_the_place_of_the_temporary_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("kcd-bridge.prom"), directory.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(".kcd-bridge.prom.new")).unwrap();
        write(&path, "new").unwrap();
        assert_eq!((fs::read_to_string(&victim).unwrap(), fs::read_to_string(&path).unwrap()), ("precious".into(), "new".into()));
    }

    #[test]
    fn the_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kcd-bridge.prom");
        write(&path, "old and longer").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write(&directory.path().join("none/x.prom"), "new").is_err());
    }
}
