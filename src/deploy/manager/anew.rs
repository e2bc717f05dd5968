//! A launch of a release that has its container already, which would be made in another way today.

use super::{DeployError, Managed};
use crate::deploy::configuration::{LaunchConfiguration, Pull};
use crate::lifecycle::fleet::View;
use crate::names::ReleaseHash;
use crate::runtime::InstanceId;
use crate::spec::WorkloadSpec;

impl Managed {
    /// A warning when the container has other variables than it would be given now: `env_file` is read at
    /// the gateway's start, and is no part of a release.
    pub(super) async fn another_environment(
        &self,
        spec: &WorkloadSpec,
        container: &View,
    ) -> Option<String> {
        let has = self.fleet.container(container.name.as_str()).await?.envs;
        let is_other = |(name, value): &(&String, &String)| has.get(*name) != Some(*value);
        // Their values may be secret.
        let names: Vec<&str> = spec
            .envs
            .iter()
            .filter(is_other)
            .map(|(name, _)| name.as_str())
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} was made with another {} than env_file gives now, and stays as it is: another \
                 environment needs another revision",
                container.name,
                names.join(", ")
            )
        })
    }

    /// Pulls such an image, and gives a warning when it is not the one that the container was made of.
    ///
    /// The container stays as it is, since a release is one thing for ever: it may be the current one,
    /// and what is gone back to has to be what it was. So does the name on the engine.
    pub(super) async fn another_image(
        &self,
        hash: &ReleaseHash,
        configuration: &LaunchConfiguration,
        image: &str,
        container: &View,
    ) -> Option<String> {
        if configuration.pull != Pull::Always {
            return None;
        }
        let id = InstanceId::new(&container.id);
        // Where the engine does not tell there is nothing to compare with.
        let made_of = self.runtime.image_of(&id).await.ok()??;
        match self.is_another(hash, configuration, image, &made_of).await {
            Ok(false) => None,
            Ok(true) => Some(format!(
                "{image} is another image by now than the one that {} was made of, which stays as it \
                 is: another image needs another revision",
                container.name
            )),
            Err(error) => Some(format!(
                "it is not known whether {image} is another image by now than the one that {} was made \
                 of: {error}",
                container.name
            )),
        }
    }

    async fn is_another(
        &self,
        hash: &ReleaseHash,
        configuration: &LaunchConfiguration,
        image: &str,
        made_of: &str,
    ) -> Result<bool, DeployError> {
        let before = self.image(image).await?;
        self.bring_image(hash, configuration, image).await?;
        let now = self.image(image).await?;
        let is_another = now.is_some_and(|now| now.id != made_of);
        if is_another {
            self.leave_image(image, before.as_ref()).await;
        }
        Ok(is_another)
    }
}
