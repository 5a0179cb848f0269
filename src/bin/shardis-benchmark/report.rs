//! The result of a run as text and as JSON.
//!
//! [`Report`] is the one place where counts become figures; the text, the JSON file and the page are three readings of
//! it. The JSON's shape is a promise to scripts: fields are added, never renamed, and `schema` says which promise it is.
//!
//! Units: microseconds for latencies, seconds since the start of the measurement for times.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    options::{Extent, Options, Plan},
    tally::Tally,
};

/// Version of the JSON's shape.
const SCHEMA: u32 = 1;

/// Latencies as figures, in microseconds.
#[derive(Debug, Clone)]
pub struct LatencyFigures {
    /// Shortest.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Longest.
    pub max: f64,
    /// The percentiles of [`PERCENTILES`].
    pub percentiles: [f64; PERCENTILES.len()],
}

/// The percentiles of the summaries, with their names in JSON.
pub const PERCENTILES: [(&str, f64); 7] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p95", 95.0),
    ("p99", 99.0),
    ("p99_9", 99.9),
    ("p99_99", 99.99),
    ("p99_999", 99.999),
];

impl LatencyFigures {
    fn of(histogram: &Histogram<u64>) -> LatencyFigures {
        LatencyFigures {
            min: us(histogram.min()),
            mean: histogram.mean() / 1e3,
            max: us(histogram.max()),
            percentiles: PERCENTILES.map(|(_, percentile)| at(histogram, percentile)),
        }
    }

    fn json(&self) -> Value {
        let mut object = json!({ "min": self.min, "mean": self.mean, "max": self.max });
        for ((name, _), value) in PERCENTILES.iter().zip(self.percentiles) {
            object[*name] = json!(value);
        }
        object
    }
}

/// One command of the mix.
#[derive(Debug, Clone)]
pub struct CommandFigures {
    /// Its name.
    pub name: String,
    /// Its template.
    pub template: String,
    /// Replies.
    pub request_count: u64,
    /// Its latencies.
    pub latency: LatencyFigures,
}

/// One point of the time series.
#[derive(Debug, Clone)]
pub struct SeriesPoint {
    /// Start of the interval.
    pub start_s: f64,
    /// Throughput in the interval.
    pub requests_per_s: f64,
    /// Errors in the interval.
    pub error_count: u64,
    /// Percentiles 50, 99 and 99.9, and the maximum.
    pub latency_us: [f64; 4],
}

/// Everything that is said about a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The user's title.
    pub title: String,
    /// The load in one line.
    pub load: String,
    /// Measured replies.
    pub request_count: u64,
    /// From the start of the measurement to the last reply.
    pub elapsed_s: f64,
    /// Errors in replies.
    pub error_count: u64,
    /// Text of the first error of the run, the preload and the warm-up included.
    pub first_error: Option<String>,
    /// Requests that were sent again to another node.
    pub redirect_count: u64,
    /// Requests without a reply at the end.
    pub unanswered_count: u64,
    /// Requests of an open loop that were never sent.
    pub unsent_count: u64,
    /// Requests of an open loop that were sent late because no client was free.
    pub starved_count: u64,
    /// Requests that were sent, those of the warm-up included.
    pub sent_count: u64,
    /// Requests per second that an open loop was asked for.
    pub rate_per_s: Option<f64>,
    /// Bytes sent and received.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// CPU time of this program for each request that it sent.
    pub generator_cpu_us: f64,
    /// All latencies.
    pub latency: LatencyFigures,
    /// Each command.
    pub commands: Vec<CommandFigures>,
    /// (percentile, microseconds), evenly spaced in the number of nines.
    pub curve: Vec<(f64, f64)>,
    /// Throughput and latency over time.
    pub series: Vec<SeriesPoint>,
    options: Value,
}

/// A rate is kept when so much of it was.
const RATE_KEPT: f64 = 0.99;

impl Report {
    /// Turns counts into figures. `cpu_s` is the CPU time that this program has used under the load.
    pub fn new(options: &Options, plan: &Plan, tally: &Tally, cpu_s: f64) -> Report {
        let latency = tally.latency();
        let interval_s = tally.interval_ns() as f64 / 1e9;
        let elapsed_s = tally.elapsed_ns() as f64 / 1e9;
        let commands = plan
            .mix
            .templates
            .iter()
            .enumerate()
            .map(|(index, template)| {
                let histogram = tally.command_latency(index);
                CommandFigures {
                    name: template.name.clone(),
                    template: template.source.clone(),
                    request_count: histogram.len(),
                    latency: LatencyFigures::of(histogram),
                }
            })
            .collect();
        let series = tally
            .series()
            .iter()
            .map(|sample| {
                let start_s = sample.index as f64 * interval_s;
                // The last interval is cut short by the end of the run.
                let length_s = interval_s.min(elapsed_s - start_s).max(1e-6);
                SeriesPoint {
                    start_s,
                    requests_per_s: sample.latency.len() as f64 / length_s,
                    error_count: sample.error_count,
                    latency_us: [50.0, 99.0, 99.9, 100.0].map(|percentile| at(&sample.latency, percentile)),
                }
            })
            .collect::<Vec<_>>();
        Report {
            title: options.title.clone(),
            load: describe(options, plan),
            request_count: latency.len(),
            elapsed_s,
            error_count: tally.error_count,
            first_error: tally.first_error.as_ref().map(|(_, text)| text.clone()),
            redirect_count: tally.redirect_count,
            unanswered_count: tally.unanswered_count,
            unsent_count: tally.unsent_count,
            starved_count: tally.starved_count,
            sent_count: tally.sent_count,
            rate_per_s: plan.rate,
            sent_bytes: tally.sent_bytes,
            received_bytes: tally.received_bytes,
            generator_cpu_us: cpu_s * 1e6 / tally.sent_count.max(1) as f64,
            latency: LatencyFigures::of(&latency),
            commands,
            curve: curve(&latency),
            series: without_stub(series, interval_s, elapsed_s),
            options: options_json(options, plan),
        }
    }

    /// Measured requests per second.
    pub fn requests_per_s(&self) -> f64 {
        self.request_count as f64 / self.elapsed_s.max(1e-9)
    }

    /// The result for a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).expect("writing to a String cannot fail");
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.load)?;
        writeln!(
            out,
            "{} requests in {:.2} s: {:.0} requests/s, {:.1} MB/s sent, {:.1} MB/s received, {:.2} µs of own CPU each",
            self.request_count,
            self.elapsed_s,
            self.requests_per_s(),
            self.sent_bytes as f64 / 1e6 / self.elapsed_s.max(1e-9),
            self.received_bytes as f64 / 1e6 / self.elapsed_s.max(1e-9),
            self.generator_cpu_us
        )?;
        write!(
            out,
            "{:<12} {:>11} {:>9} {:>9}",
            "latency µs", "requests", "min", "mean"
        )?;
        for (name, _) in PERCENTILES {
            write!(out, " {:>9}", name.replace('_', "."))?;
        }
        writeln!(out, " {:>9}", "max")?;
        let mut row = |name: &str, count: u64, latency: &LatencyFigures| {
            write!(out, "{name:<12} {count:>11} {:>9.1} {:>9.1}", latency.min, latency.mean)?;
            for value in latency.percentiles {
                write!(out, " {value:>9.1}")?;
            }
            writeln!(out, " {:>9.1}", latency.max)
        };
        row("all", self.request_count, &self.latency)?;
        if self.commands.len() > 1 {
            for command in &self.commands {
                row(&command.name, command.request_count, &command.latency)?;
            }
        }
        if self.redirect_count > 0 {
            writeln!(out, "{} requests were redirected", self.redirect_count)?;
        }
        for warning in self.warnings() {
            writeln!(out, "{warning}")?;
        }
        Ok(())
    }

    /// What makes the figures doubtful.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.error_count > 0 {
            warnings.push(format!("{} replies were or contained errors", self.error_count));
        }
        if let Some(first) = &self.first_error {
            warnings.push(format!("first error: {first}"));
        }
        if self.unanswered_count > 0 {
            warnings.push(format!("{} requests had no reply", self.unanswered_count));
        }
        if let Some(rate) = self.rate_per_s
            && self.requests_per_s() < RATE_KEPT * rate
        {
            let starved = self.starved_count as f64 / self.sent_count.max(1) as f64;
            warnings.push(format!(
                "the rate was not kept: {:.0} of {rate:.0} requests/s, and latency depends on the duration; {:.0} % of the requests \
                 waited for a free connection{}",
                self.requests_per_s(),
                100.0 * starved,
                if starved > 0.1 {
                    " (a faster server, -c or -P would help)"
                } else {
                    " (this program is too slow: --threads would help)"
                }
            ));
        }
        if self.unsent_count > 0 {
            warnings.push(format!("{} requests were due and never sent", self.unsent_count));
        }
        warnings
    }

    /// The result for scripts.
    pub fn json(&self) -> Value {
        json!({
            "tool": "shardis-benchmark",
            "version": env!("CARGO_PKG_VERSION"),
            "schema": SCHEMA,
            "title": self.title,
            "options": self.options,
            "requests": self.request_count,
            "elapsed_s": self.elapsed_s,
            "requests_per_s": self.requests_per_s(),
            "errors": self.error_count,
            "first_error": self.first_error,
            "redirected": self.redirect_count,
            "unanswered": self.unanswered_count,
            "unsent": self.unsent_count,
            "starved": self.starved_count,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "generator_cpu_us_per_request": self.generator_cpu_us,
            "latency_us": self.latency.json(),
            "commands": self.commands.iter().map(|command| json!({
                "name": command.name,
                "template": command.template,
                "requests": command.request_count,
                "latency_us": command.latency.json(),
            })).collect::<Vec<_>>(),
            "percentile_curve": self.curve,
            "series": self.series.iter().map(|point| json!({
                "start_s": point.start_s,
                "requests_per_s": point.requests_per_s,
                "errors": point.error_count,
                "p50_us": point.latency_us[0],
                "p99_us": point.latency_us[1],
                "p99_9_us": point.latency_us[2],
                "max_us": point.latency_us[3],
            })).collect::<Vec<_>>(),
        })
    }
}

fn us(latency_ns: u64) -> f64 {
    latency_ns as f64 / 1e3
}

fn at(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    us(histogram.value_at_percentile(percentile))
}

/// Ten points for each further nine, until a point would stand for less than one request.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let nines = (histogram.len().max(1) as f64).log10();
    let mut points: Vec<(f64, f64)> = (0..)
        .map(|step| f64::from(step) / 10.0)
        .take_while(|&exponent| exponent <= nines)
        .map(|exponent| {
            let percentile = 100.0 * (1.0 - 10f64.powf(-exponent));
            (percentile, at(histogram, percentile))
        })
        .collect();
    points.push((100.0, us(histogram.max())));
    points
}

/// Drops a last interval that is too short for a rate: its point would be noise.
fn without_stub(mut series: Vec<SeriesPoint>, interval_s: f64, elapsed_s: f64) -> Vec<SeriesPoint> {
    if series.len() > 1
        && series
            .last()
            .is_some_and(|last| elapsed_s - last.start_s < interval_s / 2.0)
    {
        series.pop();
    }
    series
}

fn describe(options: &Options, plan: &Plan) -> String {
    let servers: Vec<String> = plan.endpoints.iter().map(ToString::to_string).collect();
    let commands: Vec<&str> = plan
        .mix
        .templates
        .iter()
        .map(|template| template.name.as_str())
        .collect();
    let pace = match plan.rate {
        Some(rate) => format!("open loop at {rate:.0}/s"),
        None => "closed loop".to_owned(),
    };
    format!(
        "{}{}: {} connections, pipeline {}, {} threads, {pace}, RESP{}, {} over {} keys ({}), {}-byte values",
        servers.join(" "),
        if plan.is_cluster { " (cluster)" } else { "" },
        plan.client_count,
        plan.pipeline,
        plan.thread_count,
        options.resp,
        commands.join("+"),
        plan.key_count,
        options.distribution,
        options.value_bytes,
    )
}

fn options_json(options: &Options, plan: &Plan) -> Value {
    let (requests, duration_s) = match plan.extent {
        Some(Extent::Requests(requests)) => (Some(requests), None),
        Some(Extent::Duration(duration)) => (None, Some(duration.as_secs_f64())),
        None => (None, None),
    };
    json!({
        "servers": plan.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cluster": plan.is_cluster,
        "resp": options.resp,
        "connections": plan.client_count,
        "pipeline": plan.pipeline,
        "threads": plan.thread_count,
        "requests": requests,
        "duration_s": duration_s,
        "warmup_s": plan.warmup.as_secs_f64(),
        "rate_per_s": plan.rate,
        "keys": plan.key_count,
        "key_bytes": options.key_bytes,
        "distribution": options.distribution,
        "value_bytes": options.value_bytes,
        "seed": plan.seed,
    })
}

#[cfg(test)]
pub mod tests {
    use clap::Parser;

    use super::*;

    /// A report over three intervals of known counts.
    pub fn sample(title: &str) -> Report {
        let options = Options::try_parse_from([
            "shardis-benchmark",
            "--title",
            title,
            "--interval",
            "0.5",
            "--rate",
            "100",
        ])
        .unwrap();
        let plan = options.resolve(2).unwrap();
        let mut tally = Tally::new(2, 0, 500_000_000);
        for step in 1..=1_500u64 {
            let now_ns = step * 1_000_000;
            tally.advance(now_ns);
            tally.record((step % 3 == 0).into(), now_ns - step * 100, now_ns);
        }
        tally.record_error(1_400_000_000, 1_400_000_001, b"ERR <b>broken</b>");
        tally.sent_count = 2_000;
        tally.finish();
        Report::new(&options, &plan, &tally, 0.001)
    }

    #[test]
    fn the_json_has_its_promised_shape() {
        let value = sample("t").json();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["requests"], 1_500);
        assert_eq!(value["errors"], 1);
        assert_eq!(value["first_error"], "ERR <b>broken</b>");
        assert_eq!(value["generator_cpu_us_per_request"], 0.5);
        assert_eq!(value["options"]["rate_per_s"], 100.0);
        assert!((value["requests_per_s"].as_f64().unwrap() - 1_000.0).abs() < 1.0);
        for name in ["min", "mean", "max", "p50", "p90", "p95", "p99", "p99_9", "p99_99"] {
            assert!(value["latency_us"][name].is_number(), "{name}");
        }
        let p50 = value["latency_us"]["p50"].as_f64().unwrap();
        assert!((p50 - 75.0).abs() < 0.2, "{p50}");
        let commands = value["commands"].as_array().unwrap();
        assert_eq!(commands.len(), 2);
        assert_eq!(commands[0]["name"], "GET");
        assert_eq!(
            commands[0]["requests"].as_u64().unwrap() + commands[1]["requests"].as_u64().unwrap(),
            1_500
        );
        let series = value["series"].as_array().unwrap();
        assert_eq!(series.len(), 3);
        for point in series {
            for name in [
                "start_s",
                "requests_per_s",
                "errors",
                "p50_us",
                "p99_us",
                "p99_9_us",
                "max_us",
            ] {
                assert!(point[name].is_number(), "{name}");
            }
        }
        // The file can be read again.
        let text = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap()["tool"],
            "shardis-benchmark"
        );
    }

    #[test]
    fn the_curve_rises_to_the_maximum() {
        let report = sample("t");
        assert!(report.curve.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(report.curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert_eq!(report.curve.last().unwrap(), &(100.0, report.latency.max));
    }

    #[test]
    fn the_text_shows_what_is_doubtful() {
        let text = sample("t").text();
        assert!(text.contains("1 replies were or contained errors"), "{text}");
        assert!(text.contains("first error: ERR <b>broken</b>"), "{text}");
        assert!(text.contains("GET") && text.contains("SET"), "{text}");
    }

    #[test]
    fn a_rate_that_is_not_kept_is_explained() {
        let mut report = sample("t");
        assert!(report.warnings().iter().all(|warning| !warning.contains("rate")));
        report.rate_per_s = Some(1_020.0);
        let text = report.text();
        assert!(
            text.contains("the rate was not kept: 1000 of 1020 requests/s"),
            "{text}"
        );
        assert!(
            text.contains("0 % of the requests waited for a free connection"),
            "{text}"
        );
        assert!(text.contains("--threads would help"), "{text}");
        report.starved_count = 500;
        let text = report.text();
        assert!(text.contains("25 % of the requests waited"), "{text}");
        assert!(text.contains("-c or -P would help"), "{text}");
    }

    #[test]
    fn an_empty_run_has_figures_too() {
        let options = Options::try_parse_from(["shardis-benchmark"]).unwrap();
        let plan = options.resolve(2).unwrap();
        let mut tally = Tally::new(2, 0, 1_000);
        tally.finish();
        let report = Report::new(&options, &plan, &tally, 0.0);
        assert_eq!(report.json()["requests"], 0);
        assert!(report.requests_per_s().abs() < 1e-9);
    }
}
