//! A report for people.

use std::fmt;

use crate::latency::Percentiles;
use crate::report::Report;
use crate::stage::grouped;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.ended_early { ", ended early" } else { "" };
        writeln!(f, "{}, measured for {:.1} s{early}", self.mode, self.measured_s)?;
        writeln!(f)?;
        line(f, self.unit, &format!("{}, {}/s", grouped(self.count as f64), grouped(self.per_s)))?;
        self.latencies(f)?;
        for (name, count) in self.outcomes.iter() {
            line(f, &format!("  {name}"), &grouped(count as f64))?;
        }
        for (name, value) in &self.figures.0 {
            line(f, &name.replace('_', " "), &figure(*value))?;
        }
        self.processes(f)?;
        let wrong = if self.ok { "nothing".to_owned() } else { self.wrong.to_string() };
        line(f, "wrong", &wrong)
    }
}

impl Report {
    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latency_us.0.is_empty() {
            return Ok(());
        }
        let titles = ["p50", "p90", "p99", "p99.9", "max"];
        let titles: String = titles.iter().map(|title| format!("{title:>11}")).collect();
        writeln!(f, "\n{:<20}{titles}", "latency until, ms")?;
        for (name, Percentiles { p50, p90, p99, p999, max, .. }) in &self.latency_us.0 {
            let values = [p50, p90, p99, p999, max];
            let values: String =
                values.iter().map(|us| format!("{:>11.3}", *us / 1000.0)).collect();
            writeln!(f, "{:<20}{values}", format!("  {name}"))?;
        }
        writeln!(f)
    }

    fn processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit.trim_end_matches('s');
        for server in &self.costs.servers {
            let each = server.cpu_us_per_unit.map(|us| format!(", {us:.2} µs per {unit}"));
            let text = format!(
                "cpu {:.0} %{}; resident {:.1} MB, {:.1} before",
                server.cpu_percent,
                each.unwrap_or_default(),
                server.resident_kb as f64 / 1024.0,
                server.resident_kb_before as f64 / 1024.0,
            );
            line(f, &format!("{} {}", server.name, server.pid), &text)?;
        }
        if let (Some(us), [_, _, ..]) =
            (self.costs.servers_cpu_us_per_unit, self.costs.servers.as_slice())
        {
            line(f, "together", &format!("{us:.2} µs per {unit}"))?;
        }
        if let Some(load) = &self.costs.load {
            let limit = if load.was_the_limit { ": THE LOAD GENERATOR WAS THE LIMIT" } else { "" };
            let (ran, waited) = (load.cpu_percent, load.waited_percent);
            let text = format!("cpu {ran:.0} %, waited for a core {waited:.0} %{limit}");
            line(f, "load itself", &text)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<23} {text}")
}

fn figure(value: f64) -> String {
    if value.fract() == 0.0 && value >= 0.0 { grouped(value) } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;
    use crate::latency::Latencies;
    use crate::meter::Meter;
    use crate::report::Measured;
    use crate::wrong::Wrong;

    #[test]
    fn a_table_names_what_was_measured_and_what_was_wrong() {
        let mut measured = Measured { unit: "messages", count: 1234, ..Measured::default() };
        let mut latencies = Latencies::new();
        latencies.record(0, 1_500_000);
        measured.latency.push(("received", latencies));
        measured.outcomes.add("OK", 1234);
        measured.figures.push(("unsent_messages", 3.0));
        measured.wrong.add(Wrong::Lost, 2);
        let meter = Meter::watch(&[]).unwrap();
        let reading = meter.read();
        let mode = Arguments::parse_from(["load", "relay"]).mode;
        let report = Report::new(mode, measured, &meter, (&reading, &reading), true);
        assert!(!report.ok);
        let table = report.to_string();
        for part in [
            "relay, measured for 0.0 s, ended early\n",
            "\nmessages                1,234, 0/s\n",
            "\n  received                1.500      1.500",
            "\n  OK                    1,234\n",
            "\nunsent messages         3\n",
            "\nwrong                   lost 2\n",
        ] {
            assert!(table.contains(part), "{part:?} is not in\n{table}");
        }
    }

    #[test]
    fn figures_are_whole_where_they_are() {
        assert_eq!(figure(1234.0), "1,234");
        assert_eq!(figure(-2.0), "-2.00");
        assert_eq!(figure(0.126), "0.13");
    }
}
