package config

import (
	"encoding/json"
	"fmt"
	"time"
)

// ReportState is what an instance says of the newest document it was given.
type ReportState string

const (
	// Applied says that the instance runs the document.
	Applied ReportState = "applied"

	// Refused says that it does not: the document does not decode, or Validate or a subscriber refused it.
	Refused ReportState = "refused"

	// Failed says that it runs the document and is not well: see [Value.Report].
	Failed ReportState = "failed"

	// Left is the goodbye of an instance that ends in order. Nobody sees it for long.
	Left ReportState = "left"
)

// Report is what an instance said of a document. It is kept under the instance's lease: what is not there does not live.
type Report struct {
	Instance string            `json:"-"`
	Labels   map[string]string `json:"labels,omitempty"`

	// Incarnation tells a process from the one before it under the same ID.
	Incarnation string `json:"incarnation"`

	// State and Revision say what became of which document, by the key's ModRevision; or by that of the rollout's value, if Rollout
	// is not empty, which is the rollout's ID.
	State    ReportState `json:"state"`
	Revision int64       `json:"revision"`
	Rollout  string      `json:"rollout,omitempty"`

	// Reason says why it was refused or has failed.
	Reason string `json:"reason,omitempty"`

	// Running is the revision of the document in use, which is Revision unless that was refused; 0 for the default.
	Running int64 `json:"running"`

	// TTL is for how long, in seconds, the report is seen after its instance has died.
	TTL int64 `json:"ttl"`

	// At is when this was said, by the instance's clock.
	At time.Time `json:"at"`

	seen int64 // ModRevision of the report
}

// maxReason bounds the reason of a report.
const maxReason = 1 << 10

func decodeReport(id string, value []byte, revision int64) (Report, error) {
	r := Report{Instance: id, seen: revision}
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("config: the report of instance %q is malformed", id) //nolint:err113 // nobody tells it from others
	}
	return r, nil
}
