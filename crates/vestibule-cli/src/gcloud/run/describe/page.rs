//! Lines with labels and values in two columns.

/// A line of a description: text alone, or a label and its value.
pub struct Line {
    pub indent: usize,
    pub label: String,
    pub value: Option<String>,
}

/// Lines whose values stand in one column.
#[derive(Default)]
pub struct Page {
    pub lines: Vec<Line>,
}

impl Page {
    pub fn text(&mut self, indent: usize, text: impl Into<String>) {
        self.lines.push(Line { indent, label: text.into(), value: None });
    }

    pub fn field(&mut self, indent: usize, label: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.lines.push(Line { indent, label: format!("{label}:"), value: Some(value.into()) });
        }
    }

    pub fn render(&self) -> String {
        let labelled = self.lines.iter().filter(|line| line.value.is_some());
        let column = labelled.map(|line| line.indent + line.label.chars().count()).max().unwrap_or(0) + 1;
        let mut out = String::new();
        for line in &self.lines {
            let head = format!("{}{}", " ".repeat(line.indent), line.label);
            match &line.value {
                Some(value) => out += &format!("{head:column$}{value}\n"),
                None => out += &format!("{head}\n"),
            }
        }
        out
    }
}

/// Text in lines of a width at most; what is longer without a space is cut. Each line ends with a line feed.
pub fn fill(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let line = lines.last_mut().map(|line| line.chars().count()).unwrap_or(0);
            let gap = usize::from(line > 0);
            // A word that fits on no line goes on where the line before it ends.
            let room = width.saturating_sub(line + gap);
            if word.len() <= room || (word.len() > width && room > 0) {
                let rest = word.split_off(word.len().min(room));
                if let Some(line) = lines.last_mut() {
                    line.push_str(&" ".repeat(gap));
                    line.extend(word);
                }
                word = rest;
            } else {
                lines.push(String::new());
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn fills_lines() {
        assert_eq!(fill("a bb ccc", 4), "a bb\nccc\n");
        assert_eq!(fill("a bbbbbb c", 4), "a bb\nbbbb\nc\n");
        assert_eq!(fill("abcdefghi", 4), "abcd\nefgh\ni\n");
    }
}
