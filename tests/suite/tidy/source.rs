//! Source files as tokens: what the rules look at.
//!
//! A small lexer of Rust that drops comments and the insides of literals, so that a rule never
//! trips over a word in a text. It knows strings, raw strings, characters, lifetimes and nested
//! comments, and nothing of grammar. Memory: all sources of the workspace at once, a few MB.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// Folders with Rust sources.
const FOLDERS: [&str; 4] = ["runtime", "guest-sdk", "plugins", "tests"];

/// Folders that are never looked at.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", "corpus", "artifacts"];

/// One token and the line that it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// An identifier, keyword or number; one character of punctuation; `"` for any literal text.
    pub(super) text: String,
    /// Line, from 1.
    pub(super) line: usize,
}

/// One Rust file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Path from the workspace's root, with `/`.
    pub(super) path: String,
    /// The whole text.
    pub(super) text: String,
    /// Its tokens.
    pub(super) tokens: Vec<Token>,
}

impl Source {
    /// Makes a source of a text.
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens: tokens(text),
        }
    }

    /// Returns the text of token `at`, empty behind the end.
    pub(super) fn at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Returns whether the tokens from `at` on are `texts`.
    pub(super) fn matches(&self, at: usize, texts: &[&str]) -> bool {
        let mut pairs = texts.iter().enumerate();
        pairs.all(|(offset, text)| self.at(at + offset) == *text)
    }

    /// Returns the places where `texts` follow each other.
    pub(super) fn find(&self, texts: &[&str]) -> Vec<usize> {
        (0..self.tokens.len())
            .filter(|&at| self.matches(at, texts))
            .collect()
    }

    /// Returns the token after the bracket that closes the one at `open`, or the end.
    pub(super) fn after_bracket(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for at in open..self.tokens.len() {
            match self.at(at) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.tokens.len()
    }

    /// Writes a violation at token `at`.
    pub(super) fn violation(&self, at: usize, what: &str) -> String {
        let line = self.tokens.get(at).map_or(1, |token| token.line);
        format!("{}:{line}: {what}", self.path)
    }

    /// Returns the token ranges of modules and functions under `#[cfg(test)]`; everything in a file
    /// of tests.
    pub(super) fn test_ranges(&self) -> Vec<Range<usize>> {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return vec![0..self.tokens.len(); 1];
        }
        let marked = self.find(&["#", "[", "cfg", "(", "test", ")", "]"]);
        marked
            .into_iter()
            .map(|at| at..self.item_end(at + 7))
            .collect()
    }

    /// Returns the end of the item that begins at `at`: behind its block, or behind its semicolon.
    pub(super) fn item_end(&self, mut at: usize) -> usize {
        while at < self.tokens.len() {
            match self.at(at) {
                "{" => return self.after_bracket(at),
                "(" | "[" => at = self.after_bracket(at),
                ";" => return at + 1,
                _ => at += 1,
            }
        }
        at
    }
}

/// Returns all Rust files of the workspace.
pub(super) fn workspace() -> &'static [Source] {
    static FILES: OnceLock<Vec<Source>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = Vec::new();
        let root = kit::workspace_root();
        for folder in FOLDERS {
            walk(root, &root.join(folder), &mut |path, file| {
                if path.ends_with(".rs") {
                    let text = fs::read_to_string(file).expect("a source is readable text");
                    files.push(Source::new(path, &text));
                }
            });
        }
        assert!(files.len() > 20, "only {} sources were seen", files.len());
        files
    })
}

/// Returns path and text of every file of the workspace that is text.
pub(super) fn all_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let root = kit::workspace_root();
    walk(root, root, &mut |path, file| {
        if let Ok(text) = fs::read_to_string(file) {
            texts.push((path.to_owned(), text));
        }
    });
    texts
}

fn walk(root: &Path, folder: &Path, see: &mut dyn FnMut(&str, &Path)) {
    let entries = fs::read_dir(folder).expect("a folder of the workspace is readable");
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if SKIPPED.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, see);
        } else {
            let relative = path.strip_prefix(root).expect("below the root");
            see(&relative.to_string_lossy(), &path);
        }
    }
}

/// Splits a text into tokens.
fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
        line: 1,
        tokens: Vec::new(),
    };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer {
    fn peek(&self, offset: usize) -> char {
        self.chars.get(self.at + offset).copied().unwrap_or('\0')
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == '\n' {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn push(&mut self, text: String, line: usize) {
        self.tokens.push(Token { text, line });
    }

    fn step(&mut self) {
        let (line, first) = (self.line, self.peek(0));
        match (first, self.peek(1)) {
            ('/', '/') => self.skip_while(|char| char != '\n'),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(line),
            ('\'', _) => self.quote(line),
            _ if first.is_whitespace() => self.skip(1),
            _ if word(first) => self.word(line),
            _ => {
                self.push(first.to_string(), line);
                self.skip(1);
            }
        }
    }

    fn skip_while(&mut self, accepted: fn(char) -> bool) {
        while self.at < self.chars.len() && accepted(self.peek(0)) {
            self.skip(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self, line: usize) {
        self.skip(1);
        while self.at < self.chars.len() && self.peek(0) != '"' {
            self.skip(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.skip(1);
        self.push("\"".to_owned(), line);
    }

    /// A character or a lifetime.
    fn quote(&mut self, line: usize) {
        if self.peek(1) == '\\' {
            self.skip(3); // the escaped character may be a quote
            self.skip_while(|char| char != '\'');
            self.skip(1);
        } else if self.peek(2) == '\'' {
            self.skip(3);
        } else {
            self.skip(1);
            self.skip_while(word);
            return;
        }
        self.push("\"".to_owned(), line);
    }

    fn word(&mut self, line: usize) {
        let start = self.at;
        self.skip_while(word);
        let text: String = self.chars[start..self.at].iter().collect();
        match (text.as_str(), self.peek(0)) {
            ("b" | "c", '"') => self.string(line),
            ("b", '\'') => self.quote(line),
            ("r" | "br" | "cr", '"' | '#') => self.raw(line),
            _ => self.push(text, line),
        }
    }

    /// A raw string, or a raw identifier.
    fn raw(&mut self, line: usize) {
        let mut hashes = 0;
        while self.peek(hashes) == '#' {
            hashes += 1;
        }
        if self.peek(hashes) != '"' {
            self.skip(hashes); // the identifier follows as a word
            return;
        }
        self.skip(hashes + 1);
        let closes = |lexer: &Self| {
            lexer.peek(0) == '"' && (1..=hashes).all(|offset| lexer.peek(offset) == '#')
        };
        while self.at < self.chars.len() && !closes(self) {
            self.skip(1);
        }
        self.skip(hashes + 1);
        self.push("\"".to_owned(), line);
    }
}

fn word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> String {
        let all: Vec<_> = tokens(text).into_iter().map(|token| token.text).collect();
        all.join(" ")
    }

    #[test]
    fn comments_and_literals_hide_their_words() {
        assert_eq!(texts("a /* b /* c */ d */ e // f\ng"), "a e g");
        assert_eq!(
            texts(r#"a("b \" c", 'd', '\'', b"e", b'f')"#),
            "a ( \" , \" , \" , \" , \" )"
        );
        assert_eq!(texts("r#\"a \" b\"# c r#type br\"d\" e"), "\" c type \" e");
        assert_eq!(texts("fn a<'b>(c: &'b str)"), "fn a < > ( c : & str )");
        assert_eq!(texts("'\\u{1F600}' x '\"' y"), "\" x \" y");
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let found = tokens("\"a\nb\"\n/* c\n */ d");
        assert_eq!(
            found[1],
            Token {
                text: "d".to_owned(),
                line: 4
            }
        );
    }

    #[test]
    fn tests_are_told_from_the_rest() {
        let source = Source::new("a.rs", "fn a() {}\n#[cfg(test)]\nmod t { b }\nfn c() {}");
        let range = source.test_ranges().remove(0);
        let inside: Vec<_> = range.map(|at| source.at(at)).collect();
        assert_eq!(inside.join(""), "#[cfg(test)]modt{b}");
        let whole = Source::new("k/tests.rs", "fn a() {}")
            .test_ranges()
            .remove(0);
        assert_eq!((whole.start, whole.end), (0, 6));
    }
}
