//! What one commit of a rotation does with the subjects that it read.

use super::{index::Filling, rekey::Resealing};
use crate::{
    domain::{
        ids::{ObjectId, SubjectId},
        operation::{Cursor, Operation},
    },
    store::{ReadKeys, Write},
    vault::{
        act::{Plan, Scene},
        error::VaultError,
    },
};

/// What the next commit of a rotation does.
pub(super) struct Slice {
    pub(super) piece: Piece,
    /// Subjects that were looked at.
    pub(super) rows: usize,
    /// Where the next one begins; none where this was the last.
    pub(super) next: Option<Cursor>,
    /// Whether something of them does not open, or is not what it was.
    pub(super) damaged: bool,
}

/// What it writes.
pub(super) enum Piece {
    /// So many subject keys, wrapped anew already, or looked at.
    Wraps(u64),
    /// Values, references and tokens, hashed anew.
    Index(Filling),
    /// Places in indexes of other versions, dropped up to this subject's.
    Dropped(Option<SubjectId>),
    /// Subjects under new keys.
    Reseal(Resealing),
}

impl Piece {
    /// Objects of documents that stand ready for it.
    pub(super) fn objects(&self) -> Vec<ObjectId> {
        match self {
            Self::Reseal(resealing) => resealing.objects(),
            Self::Wraps(_) | Self::Index(_) | Self::Dropped(_) => Vec::new(),
        }
    }

    pub(super) fn reads(&self, keys: &mut ReadKeys) {
        match self {
            Self::Index(filling) => filling.reads(keys),
            Self::Wraps(_) | Self::Dropped(_) | Self::Reseal(_) => {}
        }
    }

    /// Decided again, the plan needs it again. Answers what it changed.
    pub(super) fn plan(
        &self,
        operation: &Operation,
        scene: &Scene<'_>,
        plan: &mut Plan,
    ) -> Result<Planned, VaultError> {
        match self {
            Self::Wraps(changed) => Ok(Planned::Ready { changed: *changed, damaged: false }),
            Self::Index(filling) => filling.plan(scene, plan),
            Self::Reseal(resealing) => {
                let changed = u64::try_from(resealing.0.len()).unwrap_or(u64::MAX);
                let planned = resealing.plan(scene, plan)?;
                Ok(if planned { Planned::Ready { changed, damaged: false } } else { Planned::Later })
            }
            Self::Dropped(up_to) => {
                let (after, keep) = (operation.after(), operation.key_version);
                plan.writes.extend(up_to.map(|up_to| Write::DropIndex(keep, after, up_to)));
                Ok(Planned::Ready { changed: 0, damaged: false })
            }
        }
    }
}

/// What a piece came to.
pub(super) enum Planned {
    /// So much is changed; and whether a row was met that somebody had changed behind the vault.
    Ready { changed: u64, damaged: bool },
    /// The batch writes one of the rows already.
    Later,
}
