//! Recipients with keys that they hold: pairs, and answers to what the vault challenges them with.

use hpke::{
    Deserializable as _, Kem as _, OpModeR, Serializable as _, aead::AesGcm256, kdf::HkdfSha256,
    kem::X25519HkdfSha256, setup_receiver,
};
use sandyq::grpc::pb::{self, platform_service_client::PlatformServiceClient};
use tonic::transport::Channel;

use super::served::request_id;

type Kem = X25519HkdfSha256;

/// A recipient's pair, always the same of one number.
pub struct Pair(<Kem as hpke::Kem>::PrivateKey, Vec<u8>);

impl Pair {
    pub fn of(number: u8) -> Self {
        let (secret, public) = Kem::derive_keypair(&[number; 32]);
        Self(secret, public.to_bytes().to_vec())
    }

    pub fn public(&self) -> Vec<u8> {
        self.1.clone()
    }

    /// What the holder of the private key finds in a challenge; none where it is for another key.
    pub fn answer(&self, offered: &pb::OfferedRecipientKey) -> Option<Vec<u8>> {
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&offered.enc).unwrap();
        let info = offered.statement.as_bytes();
        let receiver = setup_receiver::<AesGcm256, HkdfSha256, Kem>(&OpModeR::Base, &self.0, &enc, info);
        receiver.unwrap().open(&offered.ciphertext, &[]).ok()
    }
}

/// The recipient of this name that has not ended.
pub async fn recipient(
    staff: &mut PlatformServiceClient<Channel>,
    platform: &str,
    name: &str,
) -> pb::Recipient {
    let list =
        pb::ListRecipientsRequest { platform: platform.into(), ..pb::ListRecipientsRequest::default() };
    let listed = staff.list_recipients(list).await.unwrap().into_inner().recipients;
    listed.into_iter().find(|r| r.name == name && r.end_time.is_none()).unwrap()
}

pub fn proof(platform: &str, name: &str, answer: Vec<u8>) -> pb::ProveRecipientKeyRequest {
    pb::ProveRecipientKeyRequest {
        request_id: request_id(),
        platform: platform.into(),
        recipient: name.into(),
        answer,
    }
}

/// Registers a recipient with a key, and answers for it, so that releases are sealed to the key.
pub async fn register(
    staff: &mut PlatformServiceClient<Channel>,
    request: pb::RegisterRecipientRequest,
    pair: &Pair,
) {
    let (platform, name) = (request.platform.clone(), request.name.clone());
    let request = pb::RegisterRecipientRequest { public_key: pair.public(), ..request };
    let registered = staff.register_recipient(request).await.unwrap().into_inner();
    let offered = applied(registered).offered_key.unwrap();
    let request = proof(&platform, &name, pair.answer(&offered).unwrap());
    assert!(staff.prove_recipient_key(request).await.unwrap().into_inner().proved);
}

/// The recipient, where one person is enough.
pub fn applied(registered: pb::RegisterRecipientResponse) -> pb::Recipient {
    match registered.outcome.unwrap() {
        pb::register_recipient_response::Outcome::Applied(recipient) => *recipient,
        other @ pb::register_recipient_response::Outcome::Proposal(_) => panic!("not registered: {other:?}"),
    }
}
