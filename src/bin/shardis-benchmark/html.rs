//! The result as one page: plots in inline SVG, no resource from elsewhere, legible in light and dark.
//!
//! The plots are drawn here, so that the page shows them without a script, in a mail or in a CI artifact viewer. A short
//! script adds what a picture cannot: the values under the pointer, which it reads from data that stands in the page.
//!
//! Invariants:
//! 1. The page names no address: everything that it needs is in it.
//! 2. Text that came from outside (title, templates, error texts) is escaped, in the markup and in the script's data.
//!
//! Units: a plot is drawn in user units of its view box, [`WIDTH`] by [`HEIGHT`], and scales with the page.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::report::{LatencyFigures, PERCENTILES, Report};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Room for the labels of the axes.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

const STYLE: &str = "
:root { color-scheme: light dark; --page: #ffffff; --ink: #1d2433; --faint: #5d6778; --grid: #dfe3ea;
  --line0: #1f6feb; --line1: #c2410c; --line2: #7c3aed; --line3: #64748b; --warn: #b42318; }
@media (prefers-color-scheme: dark) { :root { --page: #14171d; --ink: #e6e9ef; --faint: #9aa4b5; --grid: #2d333f;
  --line0: #6cb0ff; --line1: #ffa25e; --line2: #c4a1ff; --line3: #a3b1c6; --warn: #ff8a7a; } }
body { background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
p.load { color: var(--faint); margin: .2rem 0 1rem; } p.warning { color: var(--warn); margin: .2rem 0; }
p.figure { font-size: 1.25rem; margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--grid); }
th { color: var(--faint); font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--grid); stroke-width: 1; } svg .pointer { stroke: var(--faint); stroke-dasharray: 3 3; }
svg polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.key { display: flex; flex-wrap: wrap; gap: 1.2rem; color: var(--faint); font-size: .85rem; min-height: 1.4rem; }
.key b { display: inline-block; width: 1.1rem; height: .2rem; vertical-align: middle; margin-right: .4rem; }
";

/// Shows the values of the point that is nearest to the pointer in the legend of its plot.
const SCRIPT: &str = "
for (const plot of JSON.parse(document.getElementById('plots').textContent)) {
  const figure = document.getElementById(plot.id), svg = figure.querySelector('svg');
  const line = svg.querySelector('.pointer'), where = figure.querySelector('.where');
  const labels = [...figure.querySelectorAll('.value')];
  svg.addEventListener('pointermove', event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    let nearest = 0;
    plot.x.forEach((x, index) => { if (Math.abs(x - at) < Math.abs(plot.x[nearest] - at)) nearest = index; });
    line.setAttribute('x1', plot.x[nearest]); line.setAttribute('x2', plot.x[nearest]);
    line.removeAttribute('visibility');
    where.textContent = plot.names[nearest];
    labels.forEach((label, index) => { label.textContent = ': ' + plot.values[index][nearest]; });
  });
  svg.addEventListener('pointerleave', () => {
    line.setAttribute('visibility', 'hidden'); where.textContent = '';
    labels.forEach(label => { label.textContent = ''; });
  });
}
";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut html = String::new();
    write_page(report, &mut html).expect("writing to a String cannot fail");
    html
}

fn write_page(report: &Report, out: &mut String) -> std::fmt::Result {
    let title = escape(&report.title);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"load\">{}</p>\n\
         <p class=\"figure\">{} requests/s, p50 {} µs, p99 {} µs</p>\n\
         <p class=\"load\">{} requests in {:.2} s; {:.2} µs of the generator's CPU for each</p>\n",
        escape(&report.load),
        number(report.requests_per_s()),
        number(report.latency.percentiles[0]),
        number(report.latency.percentiles[3]),
        number(report.request_count as f64),
        report.elapsed_s,
        report.generator_cpu_us,
    )?;
    for warning in report.warnings() {
        writeln!(out, "<p class=\"warning\">{}</p>", escape(&warning))?;
    }
    let plots = plots(report);
    for plot in &plots {
        plot.write(out)?;
    }
    write_table(report, out)?;
    let data: Vec<Value> = plots.iter().map(Plot::data).collect();
    // A "<" in the data could end the script element: written as an escape, it means the same to JSON.
    let data = Value::Array(data).to_string().replace('<', "\\u003c");
    writeln!(
        out,
        "<script type=\"application/json\" id=\"plots\">{data}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>"
    )
}

fn write_table(report: &Report, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "<h2>Latency in µs</h2>\n<div class=\"scroll\"><table>\n<tr><th>command</th><th>requests</th><th>min</th><th>mean</th>"
    )?;
    for (name, _) in PERCENTILES {
        write!(out, "<th>{}</th>", name.replace('_', "."))?;
    }
    writeln!(out, "<th>max</th></tr>")?;
    let mut row = |name: &str, count: u64, latency: &LatencyFigures| {
        write!(out, "<tr><td>{}</td><td>{}</td>", escape(name), number(count as f64))?;
        for value in [latency.min, latency.mean]
            .into_iter()
            .chain(latency.percentiles)
            .chain([latency.max])
        {
            write!(out, "<td>{}</td>", number(value))?;
        }
        writeln!(out, "</tr>")
    };
    row("all", report.request_count, &report.latency)?;
    for command in &report.commands {
        row(&command.template, command.request_count, &command.latency)?;
    }
    writeln!(out, "</table></div>")
}

fn plots(report: &Report) -> [Plot; 3] {
    let middle = |index: usize| -> Vec<(f64, f64)> {
        report
            .series
            .iter()
            .map(|point| (point.start_s, point.latency_us[index]))
            .collect()
    };
    let time_names: Vec<String> = report
        .series
        .iter()
        .map(|point| format!("{:.2} s", point.start_s))
        .collect();
    // The curve's x is the number of nines; the maximum stands where the next nine would be.
    let nines_max = (report.request_count.max(1) as f64).log10().max(1.0);
    let curve = report
        .curve
        .iter()
        .map(|&(percentile, latency_us)| {
            let nines = -(1.0 - percentile / 100.0).max(1e-15).log10();
            (nines.min(nines_max), latency_us)
        })
        .collect();
    [
        Plot {
            id: "throughput",
            title: "Throughput over time",
            x_label: "seconds",
            y_label: "requests/s",
            is_log: false,
            is_nines: false,
            names: time_names.clone(),
            lines: vec![(
                "requests/s",
                report
                    .series
                    .iter()
                    .map(|point| (point.start_s, point.requests_per_s))
                    .collect(),
            )],
        },
        Plot {
            id: "latency",
            title: "Latency over time",
            x_label: "seconds",
            y_label: "µs",
            is_log: true,
            is_nines: false,
            names: time_names,
            lines: vec![
                ("p50", middle(0)),
                ("p99", middle(1)),
                ("p99.9", middle(2)),
                ("max", middle(3)),
            ],
        },
        Plot {
            id: "percentiles",
            title: "Latency by percentile",
            x_label: "percentile",
            y_label: "µs",
            is_log: true,
            is_nines: true,
            names: report
                .curve
                .iter()
                .map(|(percentile, _)| {
                    format!("{percentile:.6}")
                        .trim_end_matches('0')
                        .trim_end_matches('.')
                        .to_owned()
                })
                .map(|percentile| format!("{percentile} %"))
                .collect(),
            lines: vec![("latency", curve)],
        },
    ]
}

/// One plot: lines over a common x.
struct Plot {
    id: &'static str,
    title: &'static str,
    x_label: &'static str,
    y_label: &'static str,
    /// Whether y is logarithmic.
    is_log: bool,
    /// Whether x counts nines, so that 2 is labelled 99 %.
    is_nines: bool,
    /// What each x is called.
    names: Vec<String>,
    lines: Vec<(&'static str, Vec<(f64, f64)>)>,
}

impl Plot {
    fn y_values(&self) -> impl Iterator<Item = f64> {
        self.lines
            .iter()
            .flat_map(|(_, points)| points.iter().map(|point| point.1))
    }

    /// Range of the values on the y axis, after the logarithm where there is one.
    fn y_range(&self) -> (f64, f64) {
        let high = self.y_values().fold(0.0, f64::max);
        if !self.is_log {
            return (0.0, if high > 0.0 { high * 1.08 } else { 1.0 });
        }
        let low = self
            .y_values()
            .filter(|value| *value > 0.0)
            .fold(f64::INFINITY, f64::min);
        if low.is_finite() {
            let (low, high) = (low.log10() - 0.1, high.log10() + 0.1);
            // At least one decade, so that there is a labelled line.
            (low.min(high - 1.0), high)
        } else {
            (0.0, 1.0)
        }
    }

    fn x_max(&self) -> f64 {
        let last = self
            .lines
            .iter()
            .flat_map(|(_, points)| points.last())
            .map(|point| point.0)
            .fold(0.0, f64::max);
        if last > 0.0 { last } else { 1.0 }
    }

    fn x_place(&self, x: f64) -> f64 {
        LEFT + x / self.x_max() * (WIDTH - LEFT - RIGHT)
    }

    fn y_place(&self, y: f64) -> f64 {
        let (low, high) = self.y_range();
        let value = if self.is_log {
            // An interval without a reply has no latency; it is drawn at the foot.
            if y > 0.0 { y.log10() } else { low }
        } else {
            y
        };
        TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
    }

    fn y_ticks(&self) -> Vec<f64> {
        let (low, high) = self.y_range();
        if !self.is_log {
            return ticks(high);
        }
        let decades = high - low;
        let multiples: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        (low.floor() as i32..=high.ceil() as i32)
            .flat_map(|exponent| multiples.iter().map(move |factor| factor * 10f64.powi(exponent)))
            .filter(|tick| (low..=high).contains(&tick.log10()))
            .collect()
    }

    fn x_ticks(&self) -> Vec<(f64, String)> {
        if self.is_nines {
            let middle = [(0.0, 0.0), (50.0, std::f64::consts::LOG10_2)]
                .map(|(percentile, nines)| (nines, format!("{percentile}%")));
            let nines = (1..=self.x_max() as i32).map(|nines| {
                let percentile = 100.0 * (1.0 - 10f64.powi(-nines));
                let decimals = usize::try_from(nines - 2).unwrap_or(0);
                (f64::from(nines), format!("{percentile:.decimals$}%"))
            });
            middle.into_iter().chain(nines).collect()
        } else {
            ticks(self.x_max())
                .into_iter()
                .map(|tick| (tick, number(tick)))
                .collect()
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            "<section id=\"{}\">\n<h2>{}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            self.id, self.title, self.title
        )?;
        let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in self.y_ticks() {
            let y = self.y_place(tick);
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                number(tick)
            )?;
        }
        for (tick, label) in self.x_ticks() {
            let x = self.x_place(tick);
            writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{foot}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                foot + 16.0
            )?;
        }
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            self.x_label,
            (TOP + foot) / 2.0,
            self.y_label
        )?;
        // The first line is the most important one: it is drawn last, on top.
        for (index, (_, points)) in self.lines.iter().enumerate().rev() {
            write!(out, "<polyline style=\"stroke:var(--line{index})\" points=\"")?;
            for &(x, y) in points {
                write!(out, "{:.1},{:.1} ", self.x_place(x), self.y_place(y))?;
            }
            writeln!(out, "\"/>")?;
        }
        write!(
            out,
            "<line class=\"pointer\" visibility=\"hidden\" x1=\"0\" x2=\"0\" y1=\"{TOP}\" y2=\"{foot}\"/>\n</svg>\n<div class=\"key\">"
        )?;
        for (index, (name, _)) in self.lines.iter().enumerate() {
            write!(
                out,
                "<span><b style=\"background:var(--line{index})\"></b>{name}<span class=\"value\"></span></span>"
            )?;
        }
        writeln!(out, "<span class=\"where\"></span></div>\n</section>")
    }

    /// What the script shows under the pointer.
    fn data(&self) -> Value {
        let places: Vec<f64> = self.lines[0]
            .1
            .iter()
            .map(|point| (self.x_place(point.0) * 10.0).round() / 10.0)
            .collect();
        let values: Vec<Vec<String>> = self
            .lines
            .iter()
            .map(|(_, points)| points.iter().map(|point| number(point.1)).collect())
            .collect();
        json!({ "id": self.id, "x": places, "names": self.names, "values": values })
    }
}

/// Four to eight round numbers from zero to `high`.
fn ticks(high: f64) -> Vec<f64> {
    let raw = high / 8.0;
    let unit = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|step| *step >= raw)
        .unwrap_or(10.0 * unit);
    (0..)
        .map(|index| f64::from(index) * step)
        .take_while(|tick| *tick <= high)
        .collect()
}

/// A figure with three significant digits or more, and its thousands apart.
fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        let decimals = if value < 1.0 {
            3
        } else if value < 10.0 {
            2
        } else {
            1
        };
        let text = format!("{value:.decimals$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            // A narrow no-break space: neither a decimal comma nor a decimal point to anybody.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let html = page(&sample("run"));
        for needle in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(needle), "{needle}");
        }
        assert_eq!(html.matches("<svg").count(), 3);
        assert_eq!(html.matches("<polyline").count(), 6);
        assert!(html.contains("prefers-color-scheme: dark"));
        assert!(
            !html.contains("NaN") && !html.contains("inf,"),
            "every point has a place"
        );
    }

    #[test]
    fn foreign_text_is_escaped() {
        let html = page(&sample("</script><script>alert(1)</script>"));
        assert!(!html.contains("alert(1)</script>"));
        assert!(html.contains("ERR &lt;b&gt;broken&lt;/b&gt;"));
        let data = html
            .split_once("id=\"plots\">")
            .and_then(|(_, rest)| rest.split_once("</script>"))
            .map(|(data, _)| data)
            .unwrap();
        let plots: Value = serde_json::from_str(data).unwrap();
        let throughput = &plots[0];
        assert_eq!(throughput["x"].as_array().unwrap().len(), 3);
        assert_eq!(throughput["values"][0].as_array().unwrap().len(), 3);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(5.0), "5");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1_234_567.8), "1\u{202f}234\u{202f}568");
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        for high in [0.003, 0.9, 1.0, 7.3, 99.0, 123_456.0] {
            assert!((4..=9).contains(&ticks(high).len()), "{high}");
        }
    }
}
