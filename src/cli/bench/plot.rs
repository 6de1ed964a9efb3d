//! Charts of times: how long calls took by percentile, and windows beside each other. Both axes of the first are
//! logarithmic: what one call in a thousand meets is as wide as what every second one does.

use std::fmt::Write as _;

use crate::cli::html::escape;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
/// Room for the names of times, and for those of percentiles.
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// Percentiles that have a name, and how far to the right each is: as many nines as it has.
const PERCENTILES: [(f64, &str); 7] = [
    (0.0, "min"),
    (std::f64::consts::LOG10_2, "50"),
    (1.0, "90"),
    (2.0, "99"),
    (3.0, "99.9"),
    (4.0, "99.99"),
    (5.0, "99.999"),
];
/// Lines that are told apart by colour; further ones are by their dashes too.
const COLOURS: [&str; 5] = ["--ends", "--over", "--good", "--kept", "--ink"];
const DASHES: [&str; 3] = ["", "7 4", "2 4"];

/// Times of calls: percentile and microseconds, rising.
pub(super) struct Curve {
    pub(super) name: String,
    /// Number of its colour: the same in every chart that it is in.
    pub(super) look: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// Two windows beside each other, microseconds.
pub(super) struct Windows {
    pub(super) without: f64,
    pub(super) with: f64,
}

/// Times between which a chart reaches: whole powers of ten.
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    fn of(times: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let logs = times.filter(|time| *time > 0.0).map(f64::log10);
        let (from, to) = (logs.clone().reduce(f64::min)?.floor(), logs.reduce(f64::max)?.ceil());
        Some(Self { from, to: to.max(from + 1.0) })
    }

    fn y(&self, time: f64) -> f64 {
        let part = (time.max(1.0).log10() - self.from) / (self.to - self.from);
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    /// A line for each power of ten.
    fn lines(&self) -> String {
        let mut svg = String::new();
        let mut power = self.from;
        while power <= self.to {
            let time = 10_f64.powf(power);
            let y = self.y(time);
            let (end, label) = (WIDTH - RIGHT, LEFT - 8.0);
            push(
                &mut svg,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"var(--line)\"/>\
                     <text x=\"{label}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    y + 4.0,
                    duration(time)
                ),
            );
            power += 1.0;
        }
        svg
    }
}

/// A time as people say it.
pub(super) fn duration(micros: f64) -> String {
    let text = |number: f64, unit: &str| {
        let digits = if number >= 100.0 || (number - number.round()).abs() < 0.005 { 0 } else { 2 };
        format!("{number:.digits$}\u{202f}{unit}")
    };
    if micros < 1_000.0 {
        text(micros, "µs")
    } else if micros < 1_000_000.0 {
        text(micros / 1_000.0, "ms")
    } else {
        text(micros / 1_000_000.0, "s")
    }
}

/// Curves in one chart; none where nothing was measured.
pub(super) fn curves(title: &str, curves: &[Curve]) -> String {
    let times = curves.iter().flat_map(|curve| &curve.points).map(|(_, micros)| *micros);
    let Some(scale) = Scale::of(times) else { return String::new() };
    let right = curves.iter().flat_map(|curve| &curve.points).map(|(percentile, _)| nines(*percentile));
    let right = right.fold(2.0, f64::max);
    let x = |nines: f64| LEFT + (WIDTH - LEFT - RIGHT) * nines / right;
    let mut svg = scale.lines();
    for (nines, name) in PERCENTILES.iter().filter(|(nines, _)| *nines <= right) {
        let (x, top, end) = (x(*nines), TOP, HEIGHT - BOTTOM);
        let anchor = if *nines > 0.0 { "middle" } else { "start" };
        push(
            &mut svg,
            format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{end}\" stroke=\"var(--line)\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{name}</text>",
                HEIGHT - BOTTOM + 20.0
            ),
        );
    }
    let mut legend = String::new();
    for curve in curves {
        let look = look(curve.look);
        let points = curve
            .points
            .iter()
            .map(|(percentile, micros)| format!("{:.1},{:.1}", x(nines(*percentile)), scale.y(*micros)));
        let points = points.collect::<Vec<_>>().join(" ");
        let name = escape(&curve.name);
        push(
            &mut svg,
            format_args!(
                "<polyline points=\"{points}\" fill=\"none\" {look}><title>{name}</title></polyline>"
            ),
        );
        push(&mut legend, format_args!("<span>{}{name}</span>", swatch(&look)));
    }
    figure(title, "time by percentile of the calls", &svg, &legend)
}

/// Pairs of windows in one chart, in the order of their time.
pub(super) fn windows(title: &str, pairs: &[Windows]) -> String {
    let times = pairs.iter().flat_map(|pair| [pair.without, pair.with]);
    let Some(scale) = Scale::of(times) else { return String::new() };
    let mut svg = scale.lines();
    let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
    let step = (WIDTH - LEFT - RIGHT) / f64::from(count.max(1));
    for (number, pair) in (0_u32..).zip(pairs) {
        let x = LEFT + step * (f64::from(number) + 0.5);
        let [without, with] = [scale.y(pair.without), scale.y(pair.with)];
        push(
            &mut svg,
            format_args!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{without:.1}\" y2=\"{with:.1}\" stroke=\"var(--soft)\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{without:.1}\" r=\"5\" fill=\"var(--ends)\"><title>without: {}</title></circle>\
                 <circle cx=\"{x:.1}\" cy=\"{with:.1}\" r=\"5\" fill=\"var(--over)\"><title>with: {}</title></circle>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                duration(pair.without),
                duration(pair.with),
                HEIGHT - BOTTOM + 20.0,
                number + 1
            ),
        );
    }
    let legend = [("--ends", "without"), ("--over", "with")]
        .map(|(colour, name)| format!("<span><i style=\"background:var({colour})\"></i>{name}</span>"))
        .concat();
    figure(title, "p99 of pairs of windows", &svg, &legend)
}

/// How many nines a percentile has: 1 for 90, 2 for 99, 3 for 99.9.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

fn look(number: usize) -> String {
    let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or_default();
    let dashes = DASHES.get(number / COLOURS.len() % DASHES.len()).copied().unwrap_or_default();
    format!("stroke=\"var({colour})\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"")
}

fn swatch(look: &str) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 26 10\" aria-hidden=\"true\"><line x1=\"0\" x2=\"26\" y1=\"5\" y2=\"5\" {look}/></svg>"
    )
}

fn figure(title: &str, says: &str, svg: &str, legend: &str) -> String {
    let title = escape(title);
    format!(
        "<h3>{title}</h3><figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}: {says}\">{svg}</svg>\
         <div class=\"legend\">{legend}</div></figure>"
    )
}

fn push(svg: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _written = svg.write_fmt(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        Curve { name: "echo <b>".to_owned(), look: 0, points: points.to_vec() }
    }

    #[test]
    fn each_nine_is_as_wide_as_the_other() {
        let svg = curves("a", &[curve(&[(0.0, 100.0), (90.0, 100.0), (99.0, 1_000.0), (99.9, 1_000.0)])]);
        let points = svg.split_once("points=\"").unwrap().1.split_once('"').unwrap().0;
        let points: Vec<(f64, f64)> = points
            .split(' ')
            .map(|point| {
                point.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap()
            })
            .collect();
        let steps: Vec<f64> = points.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert!(steps.iter().all(|step| (step - steps[0]).abs() < 0.2), "{steps:?}");
        assert!(points[2].1 < points[1].1, "a longer time is higher up");
        assert!(svg.contains("echo &lt;b&gt;") && !svg.contains("<b>"));
    }

    #[test]
    fn what_was_not_measured_has_no_chart() {
        assert_eq!(curves("a", &[]), "");
        assert_eq!(curves("a", &[curve(&[])]), "");
        assert_eq!(windows("a", &[]), "");
    }

    #[test]
    fn times_are_said_in_their_unit() {
        assert_eq!(duration(12.5), "12.50\u{202f}µs");
        assert_eq!(duration(1_000.0), "1\u{202f}ms");
        assert_eq!(duration(123_456.0), "123\u{202f}ms");
        assert_eq!(duration(2_500_000.0), "2.50\u{202f}s");
    }
}
