//! Policies and decisions: pure, without input or output.
//!
//! [`model`] reads a policy file and checks it; [`decide`] turns a request and the facts about it into a permit or
//! a denial; [`retention`] says when data must go; [`explain`] names the clauses behind a decision. Only `decide` can make a [`decide::Permit`].

pub mod decide;
pub mod explain;
pub mod model;
pub mod retention;
