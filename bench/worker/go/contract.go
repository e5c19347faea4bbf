// The workflows of ../contract.hpp on the official Go SDK: the same names and payloads.
package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

type provisionRequest struct {
	SubscriberID string `json:"subscriber_id"`
	TenantID     string `json:"tenant_id"`
	Correlation  string `json:"correlation"`
}

type provisionResult struct {
	SubscriberID string `json:"subscriber_id"`
	TenantID     string `json:"tenant_id"`
	Status       string `json:"status"`
	Steps        int    `json:"steps"`
	Correlation  string `json:"correlation"`
}

type stepRequest struct {
	Step         string `json:"step"`
	SubscriberID string `json:"subscriber_id"`
	TenantID     string `json:"tenant_id"`
	Correlation  string `json:"correlation"`
}

type stepResult struct {
	Step         string `json:"step"`
	SubscriberID string `json:"subscriber_id"`
	TenantID     string `json:"tenant_id"`
	Status       string `json:"status"`
	Correlation  string `json:"correlation"`
}

type addressRequest struct {
	AddressID   string `json:"address_id"`
	TenantID    string `json:"tenant_id"`
	Correlation string `json:"correlation"`
}

type addressStatus struct {
	AddressID   string `json:"address_id"`
	State       string `json:"state"`
	Revision    int    `json:"revision"`
	Correlation string `json:"correlation"`
}

type transitionRequest struct {
	To          string `json:"to"`
	RequestID   string `json:"request_id"`
	Correlation string `json:"correlation"`
}

type transitionStep struct {
	AddressID   string `json:"address_id"`
	From        string `json:"from"`
	To          string `json:"to"`
	Correlation string `json:"correlation"`
}

type signalRequest struct {
	Reason string `json:"reason"`
}

type loopRequest struct {
	Iterations  int    `json:"iterations"`
	Correlation string `json:"correlation"`
}

type loopResult struct {
	Iterations int `json:"iterations"`
}

type tickRequest struct {
	Sequence int `json:"sequence"`
}

const (
	recordAudit     = "record_audit"
	applyTransition = "apply_transition"
	loopsPerTimer   = 10
)

var steps = [...]string{"reserve_address", "persist_state", "netbox_activate", "send_coa", recordAudit}

func withTimeout(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 30 * time.Second})
}

func provision(ctx workflow.Context, r provisionRequest) (provisionResult, error) {
	ctx = withTimeout(ctx)
	result := provisionResult{SubscriberID: r.SubscriberID, TenantID: r.TenantID, Correlation: r.Correlation}
	for _, name := range steps {
		var did stepResult
		call := workflow.ExecuteActivity(ctx, name, stepRequest{name, r.SubscriberID, r.TenantID, r.Correlation})
		if err := call.Get(ctx, &did); err != nil {
			return result, err
		}
		result.Steps++
	}
	result.Status = "active"
	return result, nil
}

// entity is the state of one AddressEntity.
type entity struct {
	status  addressStatus
	revoked bool
}

func (e *entity) set(state string) {
	e.status.State = state
	e.status.Revision++
	e.revoked = e.revoked || state == "revoked"
}

func (e *entity) validate(r transitionRequest) error {
	if e.revoked || (r.To != "active" && r.To != "suspended") {
		return fmt.Errorf("cannot go to %s", r.To)
	}
	return nil
}

func (e *entity) transition(ctx workflow.Context, r transitionRequest) (addressStatus, error) {
	step := transitionStep{e.status.AddressID, e.status.State, r.To, r.Correlation}
	var did transitionStep
	if err := workflow.ExecuteActivity(withTimeout(ctx), applyTransition, step).Get(ctx, &did); err != nil {
		return e.status, err
	}
	e.set(r.To)
	return e.status, nil
}

func addressEntity(ctx workflow.Context, r addressRequest) (addressStatus, error) {
	e := &entity{status: addressStatus{AddressID: r.AddressID, State: "active", Correlation: r.Correlation}}
	err := workflow.SetQueryHandler(ctx, "status", func() (addressStatus, error) { return e.status, nil })
	if err != nil {
		return e.status, err
	}
	options := workflow.UpdateHandlerOptions{Validator: e.validate}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, "transition", e.transition, options); err != nil {
		return e.status, err
	}
	// One selector, not a goroutine for each signal: the leaner way to write it in Go.
	selector := workflow.NewSelector(ctx)
	for _, leads := range [...]struct{ signal, to string }{
		{"suspend", "suspended"}, {"reactivate", "active"}, {"revoke", "revoked"},
	} {
		selector.AddReceive(workflow.GetSignalChannel(ctx, leads.signal), func(c workflow.ReceiveChannel, _ bool) {
			var request signalRequest
			c.Receive(ctx, &request)
			e.set(leads.to)
		})
	}
	for !e.revoked {
		selector.Select(ctx)
	}
	return e.status, workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

func replayLoop(ctx workflow.Context, r loopRequest) (loopResult, error) {
	ctx = withTimeout(ctx)
	ticks := workflow.GetSignalChannel(ctx, "tick")
	for i := range r.Iterations {
		var did stepResult
		call := workflow.ExecuteActivity(ctx, recordAudit, stepRequest{Step: recordAudit, Correlation: r.Correlation})
		if err := call.Get(ctx, &did); err != nil {
			return loopResult{i}, err
		}
		if i%loopsPerTimer == 0 {
			if err := workflow.Sleep(ctx, time.Millisecond); err != nil {
				return loopResult{i}, err
			}
		}
		var tick tickRequest
		ticks.Receive(ctx, &tick)
	}
	return loopResult{r.Iterations}, nil
}

func addWorkflows(to worker.WorkflowRegistry) {
	to.RegisterWorkflowWithOptions(provision, workflow.RegisterOptions{Name: "Provision"})
	to.RegisterWorkflowWithOptions(addressEntity, workflow.RegisterOptions{Name: "AddressEntity"})
	to.RegisterWorkflowWithOptions(replayLoop, workflow.RegisterOptions{Name: "ReplayLoop"})
}

func addActivities(to worker.ActivityRegistry) {
	perform := func(_ context.Context, r stepRequest) (stepResult, error) {
		return stepResult{r.Step, r.SubscriberID, r.TenantID, "done", r.Correlation}, nil
	}
	for _, name := range steps {
		to.RegisterActivityWithOptions(perform, activity.RegisterOptions{Name: name})
	}
	apply := func(_ context.Context, step transitionStep) (transitionStep, error) { return step, nil }
	to.RegisterActivityWithOptions(apply, activity.RegisterOptions{Name: applyTransition})
}
