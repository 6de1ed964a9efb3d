//! `--channel` and `--sender`: by which channel and in whose name a person is reached (rule R5).

use super::{registers::code, values::BadPart};
use crate::{
    domain::{code::UnknownCode, outreach::Channel},
    grpc::pb,
};

#[derive(clap::Args, Debug)]
pub(super) struct OutreachArgs {
    /// Channel by which the person will be reached, where the policy names channels for the purpose: sms, call, messenger,
    /// email, push, post or display.
    #[arg(long, value_parser = |code: &str| code.parse::<Channel>())]
    channel: Option<Channel>,
    /// In whose name, as the policy names the sender; the operator's unless given.
    #[arg(long, default_value = "", requires = "channel")]
    sender: String,
}

impl OutreachArgs {
    pub(super) fn into_pb(self) -> Option<pb::Outreach> {
        self.channel.map(|channel| to_pb(channel, self.sender))
    }
}

fn to_pb(channel: Channel, sender: String) -> pb::Outreach {
    let name = format!("CHANNEL_{}", channel.as_str().to_uppercase());
    pb::Outreach { channel: pb::Channel::from_str_name(&name).unwrap_or_default().into(), sender }
}

/// The same as a file has it.
pub(super) fn written(
    channel: Option<String>,
    sender: Option<String>,
) -> Result<Option<pb::Outreach>, BadPart> {
    match (channel, sender) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(("sender", "stands only beside a channel")),
        (Some(channel), sender) => {
            let channel = channel.parse().map_err(|UnknownCode(_)| {
                ("channel", "is sms, call, messenger, email, push, post or display")
            })?;
            Ok(Some(to_pb(channel, sender.unwrap_or_default())))
        }
    }
}

/// The code of the channel, and the sender; nothing of a consent that has none.
pub(super) fn words(outreach: Option<&pb::Outreach>) -> Option<(String, &str)> {
    let outreach = outreach?;
    Some((code(outreach.channel().as_str_name(), "CHANNEL_"), &outreach.sender))
}
