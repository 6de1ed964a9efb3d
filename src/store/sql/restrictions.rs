//! Blocks on the use of subjects' data, by the day of their review.

use super::{Engine, SqlStore, lists::each, statement::Statement};
use crate::{
    domain::{
        ids::{PlatformId, SubjectId},
        time::Timestamp,
    },
    store::{
        StoreError,
        restrictions::{OpenRestrictions, WhichRestrictions},
        rows::SubjectRow,
    },
};

/// The columns of a subject, in the order in which its row is decoded.
macro_rules! columns {
    () => {
        "subject_id, reference_hash, wrapped_key, mac, sealed_reference, kind, state, restriction_trigger, \
         restriction_requester, index_version, restricted_at, review_at, erased_at, destroy_at, created_at"
    };
}

const TABLE: &str = "subjects";

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_restricted(
        &self,
        platform: PlatformId,
        which: WhichRestrictions,
        (review, id): (Timestamp, SubjectId),
        limit: u32,
    ) -> Result<Vec<SubjectRow>, StoreError> {
        const ALL: &str = concat!(
            "/* read::restricted */ SELECT ",
            columns!(),
            " FROM subjects WHERE state = 'restricted' AND platform_id = $1 AND (review_at > $3 OR (review_at = $3 AND \
             subject_id > $4)) ORDER BY review_at, subject_id LIMIT $2"
        );
        const OVERDUE: &str = concat!(
            "/* read::restricted */ SELECT ",
            columns!(),
            " FROM subjects WHERE state = 'restricted' AND platform_id = $1 AND (review_at > $3 OR (review_at = $3 AND \
             subject_id > $4)) AND review_at <= $5 ORDER BY review_at, subject_id LIMIT $2"
        );
        let of = |sql| {
            let statement = Statement::any(sql).int(platform.get()).int(limit).int(review.as_micros());
            statement.own_bytes(id.as_bytes().to_vec())
        };
        let statement = match which {
            WhichRestrictions::All => of(ALL),
            WhichRestrictions::Overdue(now) => of(OVERDUE).int(now.as_micros()),
        };
        let rows = self.list("read blocked subjects", statement).await?;
        each(&rows, TABLE, |mut c| c.subject(platform))
    }

    pub(super) async fn count_open_restrictions(
        &self,
        now: Timestamp,
    ) -> Result<Vec<OpenRestrictions>, StoreError> {
        let statement = Statement::any(
            "/* read::open_restrictions */ SELECT platform_id, count(*) AS number, \
             count(CASE WHEN review_at <= $1 THEN 1 END) AS overdue FROM subjects \
             WHERE state = 'restricted' GROUP BY platform_id ORDER BY platform_id",
        );
        let rows = self.list("count blocked subjects", statement.int(now.as_micros())).await?;
        each(&rows, TABLE, |mut c| {
            Ok(OpenRestrictions {
                platform: PlatformId::new(c.number("platform_id")?),
                count: c.number("number")?,
                overdue: c.number("overdue")?,
            })
        })
    }
}
