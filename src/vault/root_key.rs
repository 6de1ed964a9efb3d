//! The root key behind an open vault. Serving does not need it; a new platform, a rotation and the next start do.

use super::Vault;
use crate::crypto::kms::KmsError;

impl Vault {
    /// Whether the KMS answers, wraps and unwraps.
    ///
    /// # Errors
    /// [`KmsError`].
    pub async fn check_kms(&self) -> Result<(), KmsError> {
        self.shared.kms.check(self.shared.rng.as_ref()).await
    }

    /// Kind and place of the KMS, for people.
    #[must_use]
    pub fn describe_kms(&self) -> String {
        self.shared.kms.describe()
    }
}
