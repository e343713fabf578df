package snapshotcli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/snapshot"
)

// ofDays is a duration that begins with days.
var ofDays = regexp.MustCompile(`^(\d{1,5})d(.*)$`)

// parseAge is a duration as time.ParseDuration takes it, or one with days: 7d, 1d12h.
func parseAge(text string) (time.Duration, error) {
	days, rest := 0, text
	if parts := ofDays.FindStringSubmatch(text); parts != nil {
		days, _ = strconv.Atoi(parts[1])
		if rest = parts[2]; rest == "" {
			rest = "0"
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || strings.HasPrefix(rest, "-") {
		return 0, fmt.Errorf("--keep %s: write 7d, 36h, 1d12h", text)
	}
	if d += time.Duration(days) * cli.Day; d <= 0 {
		return 0, fmt.Errorf("--keep %s: it must be more than 0", text)
	}
	return d, nil
}

// looks is how often somebody who looks is told of progress.
const looks = 100 * time.Millisecond

// progress tells on a terminal how far it has come.
func (u use) progress() snapshot.Progress {
	if !u.Errs.Moving() {
		return nil
	}
	stage, last := "", time.Time{}
	return func(now string, done, total int64) {
		if now == stage && time.Since(last) < looks {
			return
		}
		stage, last = now, time.Now()
		text := now
		if total > 0 {
			text = fmt.Sprintf("%s  %s of %s, %d %%", now, snapshot.Bytes(done), snapshot.Bytes(total), done*100/total)
		}
		u.Errs.Status(text + " ...")
	}
}

// shown is a verification in JSON.
type shown struct {
	File     string   `json:"file,omitempty"`
	Taken    string   `json:"taken,omitempty"`
	Revision int64    `json:"revision,omitempty"`
	Size     int64    `json:"size,omitempty"`
	SHA256   string   `json:"sha256,omitempty"`
	Version  string   `json:"storageVersion,omitempty"`
	Verified bool     `json:"verified"`
	Keys     *int     `json:"keys,omitempty"`
	Compact  int64    `json:"compactRevision,omitempty"`
	Hash     string   `json:"hash,omitempty"`
	Members  []member `json:"members,omitempty"`
	Deleted  []string `json:"deleted,omitempty"`
	Spared   []string `json:"spared,omitempty"`
}

// member is a member that was compared, in JSON.
type member struct {
	Endpoint string `json:"endpoint"`
	Equal    bool   `json:"equal"`
	Hash     string `json:"hash,omitempty"`
	Error    string `json:"error,omitempty"`
}

// add adds what has been verified.
func (s *shown) add(v *snapshot.Verification) {
	if v == nil {
		return
	}
	s.Verified, s.Revision, s.Version, s.Keys, s.Compact, s.Hash = true, v.Revision, v.Version, &v.Keys, v.Compact, hex(v.Hash)
	for _, c := range v.Compared {
		m := member{Endpoint: c.Endpoint, Equal: c.Equal()}
		if c.Err == nil {
			m.Hash = hex(c.Hash)
		} else {
			m.Error = cli.Plainly(c.Err.Error())
		}
		s.Members = append(s.Members, m)
	}
}

func hex(hash uint32) string { return fmt.Sprintf("%08x", hash) }

// told is what a verification is for people.
func told(v *snapshot.Verification) string {
	text := fmt.Sprintf("restored at revision %d: %s, hash %s", v.Revision, cli.Plural(v.Keys, "key", "keys"), hex(v.Hash))
	if len(v.Compared) == 0 {
		return text
	}
	equal := 0
	for _, c := range v.Compared {
		if c.Equal() {
			equal++
		}
	}
	return fmt.Sprintf("%s, the same as on %d of %s", text, equal, cli.Plural(len(v.Compared), "member", "members"))
}

// doubts tells of the members that could not be compared.
func (u use) doubts(v *snapshot.Verification) {
	for _, c := range v.Compared {
		if c.Err != nil {
			u.Say("%s was not compared: %s", cli.Visible(c.Endpoint), cli.Plainly(c.Err.Error()))
		}
	}
}

// stamp is a time as it is printed.
func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
