//! Tables.

use super::expression::{Column, Format};

/// A table of cells: plain, or in a box.
pub fn table(format: &Format, columns: &[Column], rows: &[Vec<String>]) -> String {
    let keep: Vec<usize> = (0..columns.len())
        .filter(|&i| !columns[i].optional || rows.iter().any(|row| !row[i].is_empty()))
        .collect();
    let headings: Vec<String> = keep.iter().map(|&i| columns[i].heading()).collect();
    let show_heading = !format.off("heading") && headings.iter().any(|h| !h.is_empty());
    let widths: Vec<usize> = keep
        .iter()
        .zip(&headings)
        .map(|(&i, heading)| {
            let cells = rows.iter().map(|row| width(&row[i])).max().unwrap_or(0);
            if show_heading { cells.max(width(heading)) } else { cells }
        })
        .collect();
    let right: Vec<bool> = keep.iter().map(|&i| columns[i].right).collect();
    let cells: Vec<Vec<&str>> =
        rows.iter().map(|row| keep.iter().map(|&i| row[i].as_str()).collect()).collect();
    let layout = Layout { widths, right, title: format.attributes.get("title").map(String::as_str) };
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let headings = show_heading.then_some(headings);
    match format.on("box") || format.on("all-box") {
        true => layout.boxed(headings.as_deref(), &cells, format.on("all-box")),
        false => layout.plain(headings.as_deref(), &cells),
    }
}

struct Layout<'t> {
    widths: Vec<usize>,
    right: Vec<bool>,
    title: Option<&'t str>,
}

/// Blanks between the columns of a plain table.
const GAP: usize = 2;

impl Layout<'_> {
    fn plain(&self, headings: Option<&[&str]>, rows: &[Vec<&str>]) -> String {
        let mut out = String::new();
        if let Some(title) = self.title {
            let total = self.widths.iter().sum::<usize>() + GAP * self.widths.len().saturating_sub(1);
            out += &format!("{}{title}\n", " ".repeat(total.saturating_sub(width(title)) / 2));
        }
        for row in headings.into_iter().chain(rows.iter().map(Vec::as_slice)) {
            let cells: Vec<String> = row.iter().enumerate().map(|(i, cell)| self.aligned(i, cell)).collect();
            out += cells.join(&" ".repeat(GAP)).trim_end();
            out.push('\n');
        }
        out
    }

    fn boxed(&self, headings: Option<&[&str]>, rows: &[Vec<&str>], between_all: bool) -> String {
        let rule = |left: &str, middle: &str, right: &str| {
            let lines: Vec<String> = self.widths.iter().map(|w| "─".repeat(w + 2)).collect();
            format!("{left}{}{right}\n", lines.join(middle))
        };
        let mut out = String::new();
        match self.title {
            Some(title) => {
                let inner = self.widths.iter().map(|w| w + 3).sum::<usize>().saturating_sub(1);
                let left = inner.saturating_sub(width(title)) / 2;
                let line = format!("{}{title}", " ".repeat(left));
                out += &format!("┌{}┐\n│{}│\n", "─".repeat(inner), pad(&line, inner));
                out += &rule("├", "┬", "┤");
            }
            None => out += &rule("┌", "┬", "┐"),
        }
        if let Some(headings) = headings {
            let cells: Vec<String> =
                headings.iter().zip(&self.widths).map(|(h, w)| format!(" {} ", centred(h, *w))).collect();
            out += &format!("│{}│\n", cells.join("│"));
            out += &rule("├", "┼", "┤");
        }
        for (index, row) in rows.iter().enumerate() {
            if index > 0 && between_all {
                out += &rule("├", "┼", "┤");
            }
            let cells: Vec<String> =
                row.iter().enumerate().map(|(i, cell)| format!(" {} ", self.aligned(i, cell))).collect();
            out += &format!("│{}│\n", cells.join("│"));
        }
        out + &rule("└", "┴", "┘")
    }

    fn aligned(&self, column: usize, cell: &str) -> String {
        let room = self.widths[column].saturating_sub(width(cell));
        match self.right[column] {
            true => format!("{}{cell}", " ".repeat(room)),
            false => format!("{cell}{}", " ".repeat(room)),
        }
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// In the middle; an odd blank goes to the left.
fn centred(text: &str, to: usize) -> String {
    let room = to.saturating_sub(width(text));
    format!("{}{text}{}", " ".repeat(room.div_ceil(2)), " ".repeat(room / 2))
}
