//! Reads objects of the API, and refuses what nobody has read: a field that this kubelet does not
//! know would otherwise be a promise of the manifests that no test keeps.

use serde_json::{Map, Value};

/// The fields of an object that have not been read yet.
#[derive(Debug)]
pub(super) struct Fields {
    what: String,
    left: Map<String, Value>,
}

impl Fields {
    /// Begins to read an object; nothing is one without fields.
    pub(super) fn of(what: &str, object: &Value) -> Self {
        let left = match object {
            Value::Object(fields) => fields.clone(),
            Value::Null => Map::new(),
            other => panic!("{what} is no object: {other}"),
        };
        Self {
            what: what.to_owned(),
            left,
        }
    }

    /// Takes a field; it is null where there is none.
    pub(super) fn take(&mut self, name: &str) -> Value {
        self.left.remove(name).unwrap_or_default()
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Self {
        let what = format!("{}.{name}", self.what);
        Self::of(&what, &self.take(name))
    }

    /// Takes the elements of a list; none where there is no list.
    pub(super) fn list(&mut self, name: &str) -> Vec<Value> {
        match self.take(name) {
            Value::Array(list) => list,
            Value::Null => Vec::new(),
            other => panic!("{}.{name} is no list: {other}", self.what),
        }
    }

    /// Takes a text that must be there.
    pub(super) fn text(&mut self, name: &str) -> String {
        match self.take(name) {
            Value::String(text) => text,
            other => panic!("{}.{name} is no text: {other}", self.what),
        }
    }

    /// Takes a number that must be there.
    pub(super) fn number(&mut self, name: &str) -> u64 {
        let found = self.take(name);
        let number = found.as_u64();
        number.unwrap_or_else(|| panic!("{}.{name} is no number: {found}", self.what))
    }

    /// Takes a field that may be one of `values` only.
    pub(super) fn expect(&mut self, name: &str, values: &[Value]) {
        let found = self.take(name);
        let what = &self.what;
        assert!(values.contains(&found), "{what}.{name} is {found}");
    }

    /// Returns the names of what is left.
    pub(super) fn left(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// Ends the reading.
    pub(super) fn end(self) {
        assert!(self.left.is_empty(), "{} has {:?}", self.what, self.left());
    }
}
