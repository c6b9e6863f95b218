//! A plan on the published Rust SDK. It waits for all instances before a case starts, and leaves it to the plan to say
//! how the case ended.

use std::collections::BTreeSet;

use serde_json::{json, Value};
use testground::client::Client;
use testground::network_conf::{
    FilterAction, LinkShape, NetworkConfiguration, RoutingPolicyType, DEFAULT_DATA_NETWORK,
};
use tokio_stream::StreamExt;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let client = Client::new_and_init().await?;
    let ended = match client.run_parameters().test_case.as_str() {
        "meet" => meet(&client).await,
        "failure" => failure(&client).await,
        "shape" => shape(&client).await,
        other => Err(format!("there is no test case {other}").into()),
    };
    match ended {
        Ok(()) => client.record_success().await?,
        Err(error) => client.record_failure(error.to_string()).await?,
    }
    Ok(())
}

/// Publishes a greeting, hears those of all others, and leaves together with them.
async fn meet(client: &Client) -> Outcome {
    let parameters = client.run_parameters();
    let all = parameters.test_instance_count;
    let mine = json!({
        "From": format!("rust-{}", client.group_seq()),
        "Text": parameters.test_instance_params["greeting"],
    });
    client
        .publish("greetings", std::borrow::Cow::Owned(mine))
        .await?;

    let mut received = client.subscribe("greetings", u16::MAX.into()).await;
    let mut heard = BTreeSet::new();
    while (heard.len() as u64) < all {
        let greeting: Value = received
            .next()
            .await
            .ok_or("the subscription has ended")??;
        heard.insert(greeting["From"].as_str().unwrap_or("nobody").to_owned());
    }
    let names: Vec<_> = heard.into_iter().collect();
    client.record_message(format!("heard {}", names.join(" ")));
    client.signal_and_wait("done", all).await?;
    Ok(())
}

/// One instance fails while the others wait for it.
async fn failure(client: &Client) -> Outcome {
    if client.global_seq() == 1 {
        return Err("number 1 has nothing to say".into());
    }
    client
        .signal_and_wait("ready", client.run_parameters().test_instance_count)
        .await?;
    Ok(())
}

/// Asks for a slower network, which takes a runner that can shape one.
async fn shape(client: &Client) -> Outcome {
    let slow = LinkShape {
        latency: 100_000_000, // nanoseconds
        jitter: 0,
        bandwidth: 1 << 20, // bits per second
        filter: FilterAction::Accept,
        loss: 0.0,
        corrupt: 0.0,
        corrupt_corr: 0.0,
        reorder: 0.0,
        reorder_corr: 0.0,
        duplicate: 0.0,
        duplicate_corr: 0.0,
    };
    client
        .configure_network(NetworkConfiguration {
            network: DEFAULT_DATA_NETWORK.to_owned(),
            ipv4: None,
            ipv6: None,
            enable: true,
            default: slow,
            rules: None,
            callback_state: "slower".to_owned(),
            callback_target: None,
            routing_policy: RoutingPolicyType::DenyAll,
        })
        .await?;
    Ok(())
}
