//! Sensors of temperature: `/sys/class/thermal` and `/sys/class/hwmon`, both in thousandths of a degree Celsius
//! (kernel documentation: driver-api/thermal/sysfs-api, hwmon/sysfs-interface).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// More than any board has; the rest is left out.
const MAX_SENSORS: usize = 256;

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Body {
    sensors: Vec<Sensor>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Sensor {
    sensor: String,
    celsius: f64,
}

pub(super) fn read(root: &Path) -> io::Result<Body> {
    let mut sensors = Vec::new();
    for zone in folder(&root.join("sys/class/thermal")) {
        let name = word(&zone.join("type")).or_else(|| file_name(&zone));
        sensors.extend(sensor(&zone.join("temp"), name));
    }
    for chip in folder(&root.join("sys/class/hwmon")) {
        let chip_name = word(&chip.join("name")).or_else(|| file_name(&chip)).unwrap_or_default();
        for input in folder(&chip) {
            let Some(stem) = file_name(&input).and_then(|name| name.strip_suffix("_input").map(str::to_owned)) else {
                continue;
            };
            if stem.starts_with("temp") {
                let label = word(&chip.join(format!("{stem}_label"))).unwrap_or(stem);
                sensors.extend(sensor(&input, Some(format!("{chip_name} {label}"))));
            }
        }
    }
    if sensors.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this machine has no sensors"));
    }
    sensors.truncate(MAX_SENSORS);
    Ok(Body { sensors })
}

/// A sensor that cannot be read just now (its device sleeps) is left out.
fn sensor(path: &Path, name: Option<String>) -> Option<Sensor> {
    Some(Sensor { sensor: name?, celsius: parse(&word(path)?)? })
}

fn parse(text: &str) -> Option<f64> {
    let millidegrees: i32 = text.trim().parse().ok()?;
    Some(f64::from(millidegrees) / 1000.0)
}

/// What is in a folder, in the order of the names. Nothing, if it cannot be read.
fn folder(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zones_and_chips_are_read_by_their_names() {
        let root = tempfile::tempdir().expect("a folder");
        let files = [
            ("thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("thermal/thermal_zone0/temp", "48312\n"),
            ("thermal/thermal_zone1/temp", "-1500\n"),
            ("thermal/thermal_zone2/type", "asleep\n"),
            ("hwmon/hwmon0/name", "nvme\n"),
            ("hwmon/hwmon0/temp1_input", "36850\n"),
            ("hwmon/hwmon0/temp1_label", "Composite\n"),
            ("hwmon/hwmon0/temp2_input", "20000\n"),
            ("hwmon/hwmon0/in0_input", "12000\n"),
        ];
        for (path, text) in files {
            let path = root.path().join("sys/class").join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
            fs::write(path, text).expect("a write");
        }
        let found: Vec<_> =
            read(root.path()).expect("sensors").sensors.into_iter().map(|s| (s.sensor, s.celsius)).collect();
        let expected =
            [("cpu-thermal", 48.312), ("thermal_zone1", -1.5), ("nvme Composite", 36.85), ("nvme temp2", 20.0)];
        assert_eq!(found, expected.map(|(name, celsius)| (name.to_owned(), celsius)));
    }

    #[test]
    fn a_machine_without_sensors_says_so() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(read(root.path()).expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,30}|-?[0-9]{0,30}") {
            let _ = parse(&text);
        }
    }
}
