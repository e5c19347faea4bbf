// The full names of the calls that client and worker make.
#pragma once

#include <string_view>

namespace tempora::methods {

#define TEMPORA_WORKFLOW_SERVICE(name) "/temporal.api.workflowservice.v1.WorkflowService/" name
#define TEMPORA_OPERATOR_SERVICE(name) "/temporal.api.operatorservice.v1.OperatorService/" name

inline constexpr std::string_view kGetSystemInfo = TEMPORA_WORKFLOW_SERVICE("GetSystemInfo");
inline constexpr std::string_view kRegisterNamespace =
    TEMPORA_WORKFLOW_SERVICE("RegisterNamespace");
inline constexpr std::string_view kDescribeNamespace =
    TEMPORA_WORKFLOW_SERVICE("DescribeNamespace");

inline constexpr std::string_view kStartWorkflow =
    TEMPORA_WORKFLOW_SERVICE("StartWorkflowExecution");
inline constexpr std::string_view kSignalWithStart =
    TEMPORA_WORKFLOW_SERVICE("SignalWithStartWorkflowExecution");
inline constexpr std::string_view kMultiOperation =
    TEMPORA_WORKFLOW_SERVICE("ExecuteMultiOperation");
inline constexpr std::string_view kSignalWorkflow =
    TEMPORA_WORKFLOW_SERVICE("SignalWorkflowExecution");
inline constexpr std::string_view kQueryWorkflow = TEMPORA_WORKFLOW_SERVICE("QueryWorkflow");
inline constexpr std::string_view kUpdateWorkflow =
    TEMPORA_WORKFLOW_SERVICE("UpdateWorkflowExecution");
inline constexpr std::string_view kPollUpdate =
    TEMPORA_WORKFLOW_SERVICE("PollWorkflowExecutionUpdate");
inline constexpr std::string_view kCancelWorkflow =
    TEMPORA_WORKFLOW_SERVICE("RequestCancelWorkflowExecution");
inline constexpr std::string_view kTerminateWorkflow =
    TEMPORA_WORKFLOW_SERVICE("TerminateWorkflowExecution");
inline constexpr std::string_view kDescribeWorkflow =
    TEMPORA_WORKFLOW_SERVICE("DescribeWorkflowExecution");
inline constexpr std::string_view kGetHistory =
    TEMPORA_WORKFLOW_SERVICE("GetWorkflowExecutionHistory");
inline constexpr std::string_view kListWorkflows =
    TEMPORA_WORKFLOW_SERVICE("ListWorkflowExecutions");
inline constexpr std::string_view kCountWorkflows =
    TEMPORA_WORKFLOW_SERVICE("CountWorkflowExecutions");

inline constexpr std::string_view kResetWorkflow =
    TEMPORA_WORKFLOW_SERVICE("ResetWorkflowExecution");
inline constexpr std::string_view kDeleteWorkflow =
    TEMPORA_WORKFLOW_SERVICE("DeleteWorkflowExecution");
inline constexpr std::string_view kUpdateWorkflowOptions =
    TEMPORA_WORKFLOW_SERVICE("UpdateWorkflowExecutionOptions");
inline constexpr std::string_view kDescribeTaskQueue =
    TEMPORA_WORKFLOW_SERVICE("DescribeTaskQueue");
inline constexpr std::string_view kStartBatch = TEMPORA_WORKFLOW_SERVICE("StartBatchOperation");
inline constexpr std::string_view kStopBatch = TEMPORA_WORKFLOW_SERVICE("StopBatchOperation");
inline constexpr std::string_view kDescribeBatch =
    TEMPORA_WORKFLOW_SERVICE("DescribeBatchOperation");
inline constexpr std::string_view kListBatches = TEMPORA_WORKFLOW_SERVICE("ListBatchOperations");
inline constexpr std::string_view kDescribeDeployment =
    TEMPORA_WORKFLOW_SERVICE("DescribeWorkerDeployment");
inline constexpr std::string_view kListDeployments =
    TEMPORA_WORKFLOW_SERVICE("ListWorkerDeployments");
inline constexpr std::string_view kDescribeDeploymentVersion =
    TEMPORA_WORKFLOW_SERVICE("DescribeWorkerDeploymentVersion");
inline constexpr std::string_view kSetCurrentVersion =
    TEMPORA_WORKFLOW_SERVICE("SetWorkerDeploymentCurrentVersion");
inline constexpr std::string_view kSetRampingVersion =
    TEMPORA_WORKFLOW_SERVICE("SetWorkerDeploymentRampingVersion");
inline constexpr std::string_view kDeleteDeploymentVersion =
    TEMPORA_WORKFLOW_SERVICE("DeleteWorkerDeploymentVersion");
inline constexpr std::string_view kDeleteDeployment =
    TEMPORA_WORKFLOW_SERVICE("DeleteWorkerDeployment");

inline constexpr std::string_view kPollNexusTask = TEMPORA_WORKFLOW_SERVICE("PollNexusTaskQueue");
inline constexpr std::string_view kNexusTaskCompleted =
    TEMPORA_WORKFLOW_SERVICE("RespondNexusTaskCompleted");
inline constexpr std::string_view kNexusTaskFailed =
    TEMPORA_WORKFLOW_SERVICE("RespondNexusTaskFailed");

inline constexpr std::string_view kCreateSchedule = TEMPORA_WORKFLOW_SERVICE("CreateSchedule");
inline constexpr std::string_view kDescribeSchedule = TEMPORA_WORKFLOW_SERVICE("DescribeSchedule");
inline constexpr std::string_view kUpdateSchedule = TEMPORA_WORKFLOW_SERVICE("UpdateSchedule");
inline constexpr std::string_view kPatchSchedule = TEMPORA_WORKFLOW_SERVICE("PatchSchedule");
inline constexpr std::string_view kScheduleTimes =
    TEMPORA_WORKFLOW_SERVICE("ListScheduleMatchingTimes");
inline constexpr std::string_view kDeleteSchedule = TEMPORA_WORKFLOW_SERVICE("DeleteSchedule");
inline constexpr std::string_view kListSchedules = TEMPORA_WORKFLOW_SERVICE("ListSchedules");

inline constexpr std::string_view kPollWorkflowTask =
    TEMPORA_WORKFLOW_SERVICE("PollWorkflowTaskQueue");
inline constexpr std::string_view kWorkflowTaskCompleted =
    TEMPORA_WORKFLOW_SERVICE("RespondWorkflowTaskCompleted");
inline constexpr std::string_view kWorkflowTaskFailed =
    TEMPORA_WORKFLOW_SERVICE("RespondWorkflowTaskFailed");
inline constexpr std::string_view kQueryTaskCompleted =
    TEMPORA_WORKFLOW_SERVICE("RespondQueryTaskCompleted");
inline constexpr std::string_view kPollActivityTask =
    TEMPORA_WORKFLOW_SERVICE("PollActivityTaskQueue");
inline constexpr std::string_view kActivityTaskCompleted =
    TEMPORA_WORKFLOW_SERVICE("RespondActivityTaskCompleted");
inline constexpr std::string_view kActivityTaskFailed =
    TEMPORA_WORKFLOW_SERVICE("RespondActivityTaskFailed");
inline constexpr std::string_view kActivityTaskCanceled =
    TEMPORA_WORKFLOW_SERVICE("RespondActivityTaskCanceled");
inline constexpr std::string_view kActivityHeartbeat =
    TEMPORA_WORKFLOW_SERVICE("RecordActivityTaskHeartbeat");
inline constexpr std::string_view kActivityCompletedById =
    TEMPORA_WORKFLOW_SERVICE("RespondActivityTaskCompletedById");
inline constexpr std::string_view kActivityFailedById =
    TEMPORA_WORKFLOW_SERVICE("RespondActivityTaskFailedById");
inline constexpr std::string_view kActivityCanceledById =
    TEMPORA_WORKFLOW_SERVICE("RespondActivityTaskCanceledById");
inline constexpr std::string_view kActivityHeartbeatById =
    TEMPORA_WORKFLOW_SERVICE("RecordActivityTaskHeartbeatById");
inline constexpr std::string_view kPauseActivity = TEMPORA_WORKFLOW_SERVICE("PauseActivity");
inline constexpr std::string_view kUnpauseActivity = TEMPORA_WORKFLOW_SERVICE("UnpauseActivity");
inline constexpr std::string_view kResetActivity = TEMPORA_WORKFLOW_SERVICE("ResetActivity");
inline constexpr std::string_view kRecordWorkerHeartbeat =
    TEMPORA_WORKFLOW_SERVICE("RecordWorkerHeartbeat");
inline constexpr std::string_view kListWorkers = TEMPORA_WORKFLOW_SERVICE("ListWorkers");
inline constexpr std::string_view kShutdownWorker = TEMPORA_WORKFLOW_SERVICE("ShutdownWorker");

inline constexpr std::string_view kAddSearchAttributes =
    TEMPORA_OPERATOR_SERVICE("AddSearchAttributes");
inline constexpr std::string_view kRemoveSearchAttributes =
    TEMPORA_OPERATOR_SERVICE("RemoveSearchAttributes");
inline constexpr std::string_view kListSearchAttributes =
    TEMPORA_OPERATOR_SERVICE("ListSearchAttributes");
inline constexpr std::string_view kCreateNexusEndpoint =
    TEMPORA_OPERATOR_SERVICE("CreateNexusEndpoint");
inline constexpr std::string_view kGetNexusEndpoint = TEMPORA_OPERATOR_SERVICE("GetNexusEndpoint");
inline constexpr std::string_view kUpdateNexusEndpoint =
    TEMPORA_OPERATOR_SERVICE("UpdateNexusEndpoint");
inline constexpr std::string_view kDeleteNexusEndpoint =
    TEMPORA_OPERATOR_SERVICE("DeleteNexusEndpoint");
inline constexpr std::string_view kListNexusEndpoints =
    TEMPORA_OPERATOR_SERVICE("ListNexusEndpoints");

#undef TEMPORA_WORKFLOW_SERVICE
#undef TEMPORA_OPERATOR_SERVICE

}  // namespace tempora::methods
