package doctor

// Verdict is what a finding says.
type Verdict string

// Verdicts, from best to worst; what was not looked at is no verdict on it.
const (
	OK      Verdict = "ok"
	Skipped Verdict = "skipped"
	Warn    Verdict = "warn"
	Fail    Verdict = "fail"
)

// Finding is one thing that was looked at.
type Finding struct {
	Verdict  Verdict  `json:"verdict"`
	Subject  string   `json:"subject"`            // what it is about, in a few words: "certificate of etcd-1:2379"
	Reason   string   `json:"reason"`             // why the verdict is so, in a sentence
	Evidence []string `json:"evidence,omitempty"` // what was seen: figures, names; never a password or a value
	Remedy   string   `json:"remedy,omitempty"`   // what to do, with the command; for Warn, Fail, and Skipped (how to have it checked)
}

// Report is what came of a check. Its verdict is the worst of its findings.
type Report struct {
	Number   int       `json:"number"` // 1 to 8
	Name     string    `json:"check"`  // one word: tls, auth, topology, health, persistence, latency, client, monitoring
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"`
}
