//! Receipts of erasures, as far as everybody must know them.

use std::fmt;

use super::code::coded;

coded!(
    /// What a receipt is of.
    ReceiptKind, "kind of receipt" {
        /// An erasure: unreadable from then on.
        Erased = "erased",
        /// Its being called off.
        CalledOff = "called_off",
        /// The destruction of what could be read again.
        Destroyed = "destroyed",
    }
);

impl fmt::Display for ReceiptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
