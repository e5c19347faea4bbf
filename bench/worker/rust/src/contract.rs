//! The workflows of ../contract.hpp on the official Rust SDK: the same names and payloads.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use temporalio_sdk::{
    ActivityOptions, SyncWorkflowContext, WorkflowContext, WorkflowContextView, WorkflowResult,
};

macro_rules! payload {
    ($name:ident { $($field:ident: $kind:ty),* }) => {
        #[derive(Clone, Default, Serialize, Deserialize)]
        pub struct $name { $(pub $field: $kind),* }
    };
}
payload!(ProvisionRequest { subscriber_id: String, tenant_id: String, correlation: String });
payload!(ProvisionResult {
    subscriber_id: String, tenant_id: String, status: String, steps: u32, correlation: String
});
payload!(StepRequest {
    step: String, subscriber_id: String, tenant_id: String, correlation: String
});
payload!(StepResult {
    step: String, subscriber_id: String, tenant_id: String, status: String, correlation: String
});
payload!(AddressRequest { address_id: String, tenant_id: String, correlation: String });
payload!(AddressStatus { address_id: String, state: String, revision: u32, correlation: String });
payload!(TransitionRequest { to: String, request_id: String, correlation: String });
payload!(TransitionStep { address_id: String, from: String, to: String, correlation: String });
payload!(SignalRequest { reason: String });
payload!(LoopRequest { iterations: u32, correlation: String });
payload!(LoopResult { iterations: u32 });
payload!(TickRequest { sequence: u32 });

const LOOPS_PER_TIMER: u32 = 10;

pub struct Steps;

fn perform(request: StepRequest) -> Result<StepResult, ActivityError> {
    let StepRequest { step, subscriber_id, tenant_id, correlation } = request;
    Ok(StepResult { step, subscriber_id, tenant_id, status: "done".into(), correlation })
}


#[activities]
impl Steps {
    #[activity(name = "reserve_address")]
    pub async fn reserve_address(_: ActivityContext, r: StepRequest) -> Result<StepResult, ActivityError> {
        perform(r)
    }
    #[activity(name = "persist_state")]
    pub async fn persist_state(_: ActivityContext, r: StepRequest) -> Result<StepResult, ActivityError> {
        perform(r)
    }
    #[activity(name = "netbox_activate")]
    pub async fn netbox_activate(_: ActivityContext, r: StepRequest) -> Result<StepResult, ActivityError> {
        perform(r)
    }
    #[activity(name = "send_coa")]
    pub async fn send_coa(_: ActivityContext, r: StepRequest) -> Result<StepResult, ActivityError> {
        perform(r)
    }
    #[activity(name = "record_audit")]
    pub async fn record_audit(_: ActivityContext, r: StepRequest) -> Result<StepResult, ActivityError> {
        perform(r)
    }
    #[activity(name = "apply_transition")]
    pub async fn apply_transition(
        _: ActivityContext,
        step: TransitionStep,
    ) -> Result<TransitionStep, ActivityError> {
        Ok(step)
    }
}

fn limit() -> ActivityOptions {
    ActivityOptions::start_to_close_timeout(Duration::from_secs(30))
}

#[workflow]
#[derive(Default)]
pub struct Provision;

#[workflow_methods]
impl Provision {
    #[run(name = "Provision")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        r: ProvisionRequest,
    ) -> WorkflowResult<ProvisionResult> {
        let mut steps = 0;
        // Each activity is a type of its own in this SDK, so a loop over names is a macro.
        macro_rules! each {
            ($($activity:ident)*) => {$(
                let input = StepRequest {
                    step: stringify!($activity).into(),
                    subscriber_id: r.subscriber_id.clone(),
                    tenant_id: r.tenant_id.clone(),
                    correlation: r.correlation.clone(),
                };
                ctx.execute_activity(Steps::$activity, input, limit()).await?;
                steps += 1;
            )*};
        }
        each!(reserve_address persist_state netbox_activate send_coa record_audit);
        let ProvisionRequest { subscriber_id, tenant_id, correlation } = r;
        Ok(ProvisionResult { subscriber_id, tenant_id, status: "active".into(), steps, correlation })
    }
}

#[workflow]
pub struct AddressEntity {
    status: AddressStatus,
    revoked: bool,
}

impl AddressEntity {
    fn set(&mut self, state: &str) {
        self.status.state = state.into();
        self.status.revision += 1;
        self.revoked |= state == "revoked";
    }
}

#[workflow_methods]
impl AddressEntity {
    #[init]
    pub fn new(_: &WorkflowContextView, r: AddressRequest) -> Self {
        let AddressRequest { address_id, correlation, .. } = r;
        let status = AddressStatus { address_id, state: "active".into(), revision: 0, correlation };
        Self { status, revoked: false }
    }

    #[run(name = "AddressEntity")]
    pub async fn run(ctx: &mut WorkflowContext<Self>) -> WorkflowResult<AddressStatus> {
        ctx.wait_condition(|entity| entity.revoked).await?;
        Ok(ctx.state(|entity| entity.status.clone()))
    }

    #[update_validator(transition)]
    fn validate(
        &self,
        _: &WorkflowContextView,
        r: &TransitionRequest,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.revoked || !matches!(r.to.as_str(), "active" | "suspended") {
            return Err(format!("cannot go to {}", r.to).into());
        }
        Ok(())
    }

    #[update]
    pub async fn transition(ctx: &mut WorkflowContext<Self>, r: TransitionRequest) -> AddressStatus {
        let now = ctx.state(|entity| entity.status.clone());
        let TransitionRequest { to, correlation, .. } = r;
        let step = TransitionStep {
            address_id: now.address_id,
            from: now.state,
            to: to.clone(),
            correlation,
        };
        if ctx.execute_activity(Steps::apply_transition, step, limit()).await.is_ok() {
            ctx.state_mut(|entity| entity.set(&to));
        }
        ctx.state(|entity| entity.status.clone())
    }

    #[signal]
    pub fn suspend(&mut self, _: &mut SyncWorkflowContext<Self>, _: SignalRequest) {
        self.set("suspended");
    }
    #[signal]
    pub fn reactivate(&mut self, _: &mut SyncWorkflowContext<Self>, _: SignalRequest) {
        self.set("active");
    }
    #[signal]
    pub fn revoke(&mut self, _: &mut SyncWorkflowContext<Self>, _: SignalRequest) {
        self.set("revoked");
    }
    #[query]
    pub fn status(&self, _: &WorkflowContextView) -> AddressStatus {
        self.status.clone()
    }
}

#[workflow]
#[derive(Default)]
pub struct ReplayLoop {
    ticks: u32,
}

#[workflow_methods]
impl ReplayLoop {
    #[run(name = "ReplayLoop")]
    pub async fn run(
        ctx: &mut WorkflowContext<Self>,
        r: LoopRequest,
    ) -> WorkflowResult<LoopResult> {
        for i in 0..r.iterations {
            let input = StepRequest {
                step: "record_audit".into(),
                correlation: r.correlation.clone(),
                ..Default::default()
            };
            ctx.execute_activity(Steps::record_audit, input, limit()).await?;
            if i % LOOPS_PER_TIMER == 0 {
                ctx.timer(Duration::from_millis(1)).await;
            }
            ctx.wait_condition(|state| state.ticks > 0).await?;
            ctx.state_mut(|state| state.ticks -= 1);
        }
        Ok(LoopResult { iterations: r.iterations })
    }

    #[signal]
    pub fn tick(&mut self, _: &mut SyncWorkflowContext<Self>, _: TickRequest) {
        self.ticks += 1;
    }
}
