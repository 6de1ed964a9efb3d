//! The collector of traces by the address that is really reached, at each new connection.

use std::sync::Arc;

use sandyq::{
    domain::time::Timestamp,
    residency::{Names, SystemNames},
    telemetry::{
        collector::{Collector, CollectorPlace},
        otlp::Origin,
    },
    vault::traces::CallSpan,
};

use super::net::{Turning, with_frankfurt};
use crate::common::collector::{Collector as Receiver, Mode};

fn collector(receiver: &Receiver, host: &str, frankfurt: &[&str], names: Arc<dyn Names>) -> Collector {
    let place = CollectorPlace {
        endpoint: format!("https://{host}:{}", receiver.address.port()),
        authority: Some(receiver.authority().to_vec()),
    };
    let origin = Origin { installation: "vault.example.kz".into(), replica: "sandyq-0".into(), port: 7443 };
    Collector::new(&place, origin, with_frankfurt(frankfurt, names)).unwrap()
}

#[tokio::test]
async fn the_collector_is_judged_by_the_address_that_is_dialled() {
    let receiver = Receiver::start(Mode::Takes(0)).await;
    let spans = [CallSpan {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent: None,
        call: None,
        status: 0,
        began_at: Timestamp::from_micros(7),
        took: std::time::Duration::ZERO,
        parts: Vec::new(),
    }];
    let names = Turning::at("127.0.0.1");
    let by_name = collector(&receiver, "localhost", &["127.0.0.2/32"], names.clone());
    by_name.send(&spans).await.unwrap();
    // Each new connection asks anew what the name stands for.
    names.turn_to("127.0.0.2");
    let refused = by_name.send(&spans).await.unwrap_err().to_string();
    assert!(
        refused.contains("the telemetry at localhost is at 127.0.0.2: it is of site frankfurt in DE"),
        "{refused}"
    );
    names.turn_to("127.0.0.1");
    by_name.send(&spans).await.unwrap();

    // The collector itself is abroad, however its address is written: nothing is sent there.
    let before = receiver.connections();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let abroad = collector(&receiver, host, &["127.0.0.1/32"], Arc::new(SystemNames));
        let refused = abroad.send(&spans).await.unwrap_err().to_string();
        assert!(refused.contains("it is of site frankfurt in DE"), "{host}: {refused}");
    }
    assert_eq!(receiver.connections(), before, "nobody connected");
    assert_eq!(receiver.spans().len(), 2);
}
