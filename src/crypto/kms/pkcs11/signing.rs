//! Private keys of client certificates in a token: they sign there, and never leave it.

use std::{path::PathBuf, sync::Mutex};

use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use ring::{
    digest,
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};

use super::module::{Access, Module, Token, Trouble};
use crate::crypto::kms::{KmsError, SecretSource};

/// `CKA_EC_PARAMS` of P-256 and P-384: the curve's object identifier, DER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// How a key is found in its token.
pub enum KeyName {
    /// By `CKA_LABEL`.
    Label(String),
    /// By `CKA_ID`.
    Id(Vec<u8>),
}

/// Where a key is, and how its owner is let in.
pub struct TokenKeyOptions {
    /// The module's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Which of its keys.
    pub key: KeyName,
    /// The user's PIN.
    pub pin: SecretSource,
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// RSA-PSS with SHA-256.
    RsaPss,
}

impl SigningAlgorithm {
    /// The mechanism that signs a digest.
    fn mechanism(self) -> Mechanism<'static> {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 => Mechanism::Ecdsa,
            Self::RsaPss => Mechanism::RsaPkcsPss(PkcsPssParams {
                hash_alg: MechanismType::SHA256,
                mgf: PkcsMgfType::MGF1_SHA256,
                s_len: 32.into(),
            }),
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::EcdsaP256 | Self::RsaPss => &digest::SHA256,
            Self::EcdsaP384 => &digest::SHA384,
        }
    }

    /// How a signature is checked as the token makes it.
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::EcdsaP384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::RsaPss => &signature::RSA_PSS_2048_8192_SHA256,
        }
    }
}

/// A private key in a token.
pub struct TokenKey {
    token: Token,
    name: KeyName,
    algorithm: SigningAlgorithm,
    certificate: Option<Vec<u8>>,
}

impl TokenKey {
    /// Logs in and looks for the key. Blocks.
    ///
    /// # Errors
    /// [`KmsError::Unavailable`] where the module, the token or the key is not there, the PIN is refused, or the key is none
    /// that signs here.
    pub fn open(options: TokenKeyOptions) -> Result<Self, KmsError> {
        let TokenKeyOptions { module, token, key: name, pin } = options;
        let module = Module::load(&module)?;
        let token = Token { module, label: token, pin, refused_pin: Mutex::default() };
        let (algorithm, certificate) = token.run(false, &|access| name.look_at(&token.label, access))?;
        Ok(Self { token, name, algorithm, certificate })
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The certificate that the token holds with the same `CKA_ID`, DER.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Which key of which token it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.name.place(&self.token.label)
    }

    /// Signs a message, as TLS has it. `public_key` is what the certificate says, the contents of its bit string: what does not
    /// verify with it does not go out. Blocks, for as long as the device waits to be touched.
    ///
    /// # Errors
    /// [`KmsError::Unavailable`].
    pub fn sign(&self, message: &[u8], public_key: &[u8]) -> Result<Vec<u8>, KmsError> {
        let hashed = digest::digest(self.algorithm.digest(), message);
        let signature = self.token.run(false, &|access| {
            let key = self.name.find(&self.token.label, access)?;
            Ok(access.session.sign(&self.algorithm.mechanism(), key, hashed.as_ref())?)
        })?;
        let verified =
            UnparsedPublicKey::new(self.algorithm.verification(), public_key).verify(message, &signature);
        if verified.is_err() {
            let text = format!("the certificate is of another key than the {}", self.describe());
            return Err(KmsError::Unavailable(text));
        }
        Ok(match self.algorithm {
            SigningAlgorithm::EcdsaP256 | SigningAlgorithm::EcdsaP384 => der_signature(&signature),
            SigningAlgorithm::RsaPss => signature,
        })
    }
}

impl KeyName {
    fn place(&self, token: &str) -> String {
        match self {
            Self::Label(label) => format!("private key {label} in token {token}"),
            Self::Id(id) => {
                format!("private key with id {} in token {token}", data_encoding::HEXLOWER.encode(id))
            }
        }
    }

    fn find(&self, token: &str, access: &Access<'_>) -> Result<ObjectHandle, Trouble> {
        let named = match self {
            Self::Label(label) => Attribute::Label(label.clone().into_bytes()),
            Self::Id(id) => Attribute::Id(id.clone()),
        };
        let problem = match access
            .session
            .find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), named])?
            .as_slice()
        {
            [key] => return Ok(*key),
            [] => {
                access.require_token()?;
                "is not there"
            }
            _ => "is there twice: name it by its id",
        };
        Err(KmsError::Unavailable(format!("the {} {problem}", self.place(token))).into())
    }

    /// What the key is, and the certificate beside it.
    fn look_at(
        &self,
        token: &str,
        access: &Access<'_>,
    ) -> Result<(SigningAlgorithm, Option<Vec<u8>>), Trouble> {
        let key = self.find(token, access)?;
        let asked = [
            AttributeType::KeyType,
            AttributeType::EcParams,
            AttributeType::Extractable,
            AttributeType::AlwaysAuthenticate,
            AttributeType::Id,
        ];
        let (mut kind, mut curve, mut id, mut problem) = (None, Vec::new(), Vec::new(), None);
        for attribute in access.session.get_attributes(key, &asked)? {
            if let Attribute::KeyType(found) = attribute {
                kind = Some(found);
            } else if let Attribute::EcParams(found) = attribute {
                curve = found;
            } else if let Attribute::Id(found) = attribute {
                id = found;
            } else if let Attribute::Extractable(true) = attribute {
                problem = Some("may leave the token: make one there that cannot");
            } else if let Attribute::AlwaysAuthenticate(true) = attribute {
                problem = Some("asks for the PIN before each signature: use another, as that of PIV slot 9a");
            }
        }
        let algorithm = match kind {
            Some(KeyType::RSA) => Some(SigningAlgorithm::RsaPss),
            Some(KeyType::EC) if curve == P256 => Some(SigningAlgorithm::EcdsaP256),
            Some(KeyType::EC) if curve == P384 => Some(SigningAlgorithm::EcdsaP384),
            Some(_) | None => None,
        };
        match (algorithm, problem) {
            (Some(algorithm), None) => Ok((algorithm, self.certificate(token, access, id)?)),
            (_, problem) => {
                let problem = problem.unwrap_or("is neither ECDSA on P-256 or P-384 nor RSA");
                Err(KmsError::Unavailable(format!("the {} {problem}", self.place(token))).into())
            }
        }
    }

    fn certificate(&self, token: &str, access: &Access<'_>, id: Vec<u8>) -> Result<Option<Vec<u8>>, Trouble> {
        if id.is_empty() {
            return Ok(None);
        }
        let template = [Attribute::Class(ObjectClass::CERTIFICATE), Attribute::Id(id)];
        let held = access.session.find_objects(&template)?;
        let [certificate] = held.as_slice() else { return Ok(None) };
        let found = access.session.get_attributes(*certificate, &[AttributeType::Value])?;
        let value = found
            .into_iter()
            .find_map(|attribute| if let Attribute::Value(value) = attribute { Some(value) } else { None });
        let unreadable = || {
            let text = format!("the certificate of the {} cannot be read", self.place(token));
            Trouble::Final(KmsError::Unavailable(text))
        };
        value.map(Some).ok_or_else(unreadable)
    }
}

/// An ECDSA signature as a DER SEQUENCE of two INTEGERs; a token gives both as numbers of one length, one after the other.
fn der_signature(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    // For P-384 at most 102 bytes: one byte says the length.
    tagged(0x30, [integer(r), integer(s)].concat())
}

fn integer(number: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = number.iter().copied().skip_while(|digit| *digit == 0).collect();
    if digits.first().is_none_or(|first| *first >= 0x80) {
        digits.insert(0, 0);
    }
    tagged(0x02, digits)
}

fn tagged(tag: u8, contents: Vec<u8>) -> Vec<u8> {
    let mut der = vec![tag, u8::try_from(contents.len()).unwrap_or(u8::MAX)];
    der.extend(contents);
    der
}

#[cfg(test)]
mod tests {
    use super::der_signature;

    #[test]
    fn signatures_are_the_shortest_der() {
        assert_eq!(der_signature(&[0, 0, 0, 1, 0, 0, 0x80, 2]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2]);
        assert_eq!(der_signature(&[0, 0, 0, 0]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        assert_eq!(der_signature(&[0xff; 96])[..6], [0x30, 102, 2, 49, 0, 0xff]);
    }
}
