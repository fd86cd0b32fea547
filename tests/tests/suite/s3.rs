//! The same as in memory and in a folder on a real S3 service, when the environment names one.

use lifeboat_vault::store::{Store, StoreOptions};

use crate::fleet::{a_life, sixteen_agents_at_once};
use crate::store::s3::{unused_prefix, variable};

fn service() -> Option<(Store, String)> {
    let url = unused_prefix()?;
    Some((Store::open(&url, &StoreOptions::default(), &variable).expect("a store"), url))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_on_s3() {
    let Some((store, url)) = service() else { return };
    a_life(store, &url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_agents_on_s3() {
    let Some((store, url)) = service() else { return };
    sixteen_agents_at_once(store, &url).await;
}
