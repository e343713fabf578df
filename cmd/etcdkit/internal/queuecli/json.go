package queuecli

import (
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/queue"
)

// jsonStats is what a queue holds.
type jsonStats struct {
	Queue       string    `json:"queue"`
	Time        time.Time `json:"time,omitzero"`
	Waiting     int       `json:"waiting"`
	Delayed     int       `json:"delayed"`
	InFlight    int       `json:"inFlight"`
	Dead        int       `json:"dead"`
	Workers     int       `json:"workers"`
	Oldest      float64   `json:"oldestSeconds"`
	Paused      bool      `json:"paused"`
	PausedSince time.Time `json:"pausedSince,omitzero"`
	PauseReason string    `json:"pauseReason,omitempty"`
}

func statsFacts(name string, s queue.Stats) jsonStats {
	return jsonStats{
		Queue: name, Waiting: s.Waiting, Delayed: s.Delayed, InFlight: s.InFlight, Dead: s.Dead, Workers: s.Workers,
		Oldest: s.Oldest.Round(time.Millisecond).Seconds(), Paused: s.Paused, PausedSince: s.PausedSince, PauseReason: s.PauseReason,
	}
}

// jsonJob is a job, or a dead letter. Its item is text if it is UTF-8, and else in base64.
type jsonJob struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Priority int       `json:"priority"`
	Key      string    `json:"key,omitempty"`
	Attempts int       `json:"attempts"`
	LastErr  string    `json:"error,omitempty"`
	Pushed   time.Time `json:"pushed,omitzero"`
	Due      time.Time `json:"due,omitzero"`
	Died     time.Time `json:"died,omitzero"`
	Worker   string    `json:"worker,omitempty"`
	Problem  string    `json:"problem,omitempty"` // what is wrong with one that is unreadable
	Item     *string   `json:"item,omitempty"`
	Base64   []byte    `json:"itemBase64,omitempty"`
}

func jobFacts(i queue.Info[[]byte], state string) jsonJob {
	item := i.Raw
	if item == nil {
		item = []byte{}
	}
	value := cli.ValueOf(item)
	j := jsonJob{
		ID: i.ID, State: state, Priority: i.Priority, Key: i.Key, Attempts: i.Attempts, LastErr: i.LastErr, Pushed: i.Pushed, Due: i.Due, Died: i.Died,
		Worker: i.Worker, Item: value.Text, Base64: value.Base64,
	}
	if i.Err != nil {
		j.Problem = cli.Plainly(i.Err.Error())
	}
	return j
}

// jsonDone is what came of a command that changes a queue.
type jsonDone struct {
	Queue string `json:"queue"`
	Done  string `json:"done"` // redriven, discarded, purged, paused, resumed
	Count *int   `json:"count,omitempty"`
}
