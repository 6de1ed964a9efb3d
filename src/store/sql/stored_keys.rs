//! Subject keys in the order in which the database stores them, for the rotation that writes nearly every one of them: in the order
//! of ids, which are random, each would be on another page, and a page is written to PostgreSQL's log in full at its first change
//! after a checkpoint.

use super::{Engine, SqlStore, decode::Columns, lists::each, statement::Statement};
use crate::{
    domain::{
        ids::{PlatformId, SubjectId},
        operation::Cursor,
        secret::Sealed,
    },
    store::{StoreError, StoredKeys},
};

/// Keys of one page that are written together. A page has room for so many new rows beside the old ones (migration 0023), and
/// what one round leaves behind is room for the next.
const ROOM: usize = 2;
/// Rows that a page of PostgreSQL has at least, where one platform alone has written it.
const FEWEST_ON_A_PAGE: u64 = 16;
/// Pages that are looked at in one call at most: where other platforms have nearly all of them, few keys are found.
const MOST_PAGES: u64 = 8_192;

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_stored_keys(
        &self,
        platform: PlatformId,
        from: Option<Cursor>,
        limit: u32,
    ) -> Result<StoredKeys, StoreError> {
        let Some(texts) = &self.engine().dialect().pages else {
            // The table is its primary key.
            let after = from.map_or([0; 16], |cursor| *cursor.as_bytes());
            let keys = self.read_wrapped_keys(platform, SubjectId::from_bytes(after), limit).await?;
            let next = keys.last().map(|(last, _)| Cursor::from(*last));
            return Ok(StoredKeys { rounds: vec![keys], next });
        };
        let counted = self.list("count pages of subjects", Statement::any(texts.count)).await?;
        let pages = each(&counted, "subjects", |mut c| c.number("pages"))?.into_iter().next().unwrap_or(0);
        let (first, limit) = (from.map_or(0, page_of), usize::try_from(limit).unwrap_or(usize::MAX));
        let end = pages.min(first.saturating_add(MOST_PAGES));
        let (mut page, mut keys) = (first, Vec::new());
        while page < end && keys.len() < limit {
            let missing = u64::try_from(limit - keys.len()).unwrap_or(u64::MAX);
            // Never more, however few were found so far: what follows may be this platform's alone.
            let until = end.min(page.saturating_add(missing.div_ceil(FEWEST_ON_A_PAGE)));
            keys.extend(self.read_pages(texts.read, platform, page, until).await?);
            page = until;
        }
        let next = (page < pages).then(|| at_page(page));
        Ok(StoredKeys { rounds: in_rounds(keys), next })
    }

    async fn read_pages(
        &self,
        text: &'static str,
        platform: PlatformId,
        from: u64,
        until: u64,
    ) -> Result<Vec<(u64, (SubjectId, Sealed))>, StoreError> {
        let (from, until) = (format!("({from},0)"), format!("({until},0)"));
        let statement = Statement::any(text).int(platform.get()).text(&from).text(&until);
        let rows = self.list("read wrapped keys as they are stored", statement).await?;
        each(&rows, "subjects", |mut c: Columns<'_, _>| {
            let key = (SubjectId::from_bytes(c.array("subject_id")?), c.sealed("wrapped_key")?);
            Ok((c.number("page")?, key))
        })
    }
}

/// A subject's id, which a process of an older version left there, lies beyond every page: what it has not done the verification does.
fn page_of(cursor: Cursor) -> u64 {
    u64::try_from(u128::from_be_bytes(*cursor.as_bytes())).unwrap_or(u64::MAX)
}

fn at_page(page: u64) -> Cursor {
    Cursor::from_bytes(u128::from(page).to_be_bytes())
}

/// Of each page at most [`ROOM`] keys in a round.
fn in_rounds<T>(keys: Vec<(u64, T)>) -> Vec<Vec<T>> {
    let (mut rounds, mut at, mut of_page): (Vec<Vec<T>>, _, _) = (Vec::new(), None, 0);
    for (page, key) in keys {
        of_page = if at == Some(page) { of_page + 1 } else { 0 };
        at = Some(page);
        let round = of_page / ROOM;
        if rounds.len() <= round {
            rounds.resize_with(round + 1, Vec::new);
        }
        if let Some(round) = rounds.get_mut(round) {
            round.push(key);
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_no_more_of_a_page_than_it_has_room_for() {
        let keys = [(7, 'a'), (7, 'b'), (7, 'c'), (8, 'd'), (9, 'e'), (9, 'f'), (9, 'g'), (9, 'h'), (9, 'i')];
        let expected = [vec!['a', 'b', 'd', 'e', 'f'], vec!['c', 'g', 'h'], vec!['i']];
        assert_eq!(in_rounds(keys.to_vec()), expected);
        assert!(in_rounds(Vec::<(u64, char)>::new()).is_empty());
    }

    #[test]
    fn a_place_is_kept_as_a_cursor_and_an_id_is_behind_the_last() {
        assert_eq!(page_of(at_page(0)), 0);
        assert_eq!(page_of(at_page(u64::from(u32::MAX))), u64::from(u32::MAX));
        let mut id = [0; 16];
        id[0] = 1;
        assert_eq!(page_of(Cursor::from(SubjectId::from_bytes(id))), u64::MAX);
    }
}
