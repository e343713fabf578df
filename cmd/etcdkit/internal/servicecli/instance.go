package servicecli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/leases"
	"github.com/etcdkit/etcdkit/registry"
)

// instance is one as etcd has it.
type instance struct {
	service, id string
	lease       clientv3.LeaseID
	is          *registry.Instance // nil if it is malformed
	problem     string             // why, or what else is the matter
}

// instancesOf reads instances from keys, in their order: of one service, or of all. Keys further below one are other services'.
func instancesOf(prefix, service string, keys []*mvccpb.KeyValue) (all []instance) {
	for _, kv := range keys {
		rest := strings.TrimPrefix(string(kv.Key), prefix)
		at := strings.LastIndexByte(rest, '/')
		if at < 1 || at == len(rest)-1 || service != "" && rest[:at] != service {
			continue
		}
		i := instance{service: rest[:at], id: rest[at+1:], lease: clientv3.LeaseID(kv.Lease)}
		var err error
		if i.is, err = registry.DecodeJSON(i.service, i.id, kv.Value); err != nil {
			i.problem = err.Error()
		} else {
			i.problem = pending(kv.Value)
		}
		if i.problem == "" && kv.Lease == 0 {
			i.problem = "without a lease: it stays when its process dies"
		}
		all = append(all, i)
	}
	return all
}

// pending says what was asked of an instance and is not answered.
func pending(value []byte) string {
	var r struct {
		Asked *struct{ State, By string }
	}
	if json.Unmarshal(value, &r) != nil || r.Asked == nil {
		return ""
	}
	text := "asked to be " + r.Asked.State
	if r.Asked.By != "" {
		text += " by " + r.Asked.By
	}
	return text + ", not answered"
}

// state is that of an instance.
func (i *instance) state() string {
	if i.is == nil {
		return "malformed"
	}
	return i.is.State.String()
}

// same reports whether nothing has changed but the lease.
func (i *instance) same(o instance) bool {
	if i.is == nil || o.is == nil {
		return i.is == o.is && i.problem == o.problem
	}
	return i.is.Equal(o.is) && i.problem == o.problem
}

// String is an instance in a line.
func (i *instance) String() string {
	parts := []string{i.id, i.state()}
	if i.is != nil {
		parts = append(parts, i.is.Addr)
		if i.is.Zone != "" {
			parts = append(parts, "zone "+i.is.Zone)
		}
		if i.is.Version != "" {
			parts = append(parts, "version "+i.is.Version)
		}
	}
	if i.problem != "" {
		parts = append(parts, "("+i.problem+")")
	}
	return strings.Join(parts, "  ")
}

func leasesOf(all []instance) (ids []clientv3.LeaseID) {
	for _, i := range all {
		ids = append(ids, i.lease)
	}
	return ids
}

var instanceHeader = []string{"ID", "STATE", "ADDR", "ZONE", "VERSION", "WEIGHT", "LEFT", "METADATA, PROBLEMS"}

func instanceRows(all []instance, known map[clientv3.LeaseID]leases.Lease) [][]string {
	rows := make([][]string, len(all))
	weighted := slices.ContainsFunc(all, func(i instance) bool { return i.is != nil && i.is.Weight != defaultWeight })
	for n, i := range all {
		row := []string{i.id, i.state(), "", "", "", "", known[i.lease].Text(), i.problem}
		if i.is != nil {
			row[2], row[3], row[4] = i.is.Addr, i.is.Zone, i.is.Version
			if weighted {
				row[5] = strconv.Itoa(i.is.Weight)
			}
			if text := metadataText(i.is.Metadata); text != "" && i.problem != "" {
				row[7] += "; " + text
			} else {
				row[7] += text
			}
		}
		rows[n] = row
	}
	return rows
}

// defaultWeight is not worth a column if all have it.
const defaultWeight = 100

// instanceJSON is an instance.
type instanceJSON struct {
	Service  string            `json:"service"`
	ID       string            `json:"id"`
	Time     time.Time         `json:"time,omitzero"` // of a watch
	Event    string            `json:"event,omitempty"`
	State    string            `json:"state"`
	Addr     string            `json:"addr,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Version  string            `json:"version,omitempty"`
	Weight   int               `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Lease    string            `json:"lease,omitempty"`
	Granted  *float64          `json:"grantedSeconds,omitempty"`
	Left     *float64          `json:"leftSeconds,omitempty"`
	Problem  string            `json:"problem,omitempty"`
}

func (i *instance) facts(known map[clientv3.LeaseID]leases.Lease) instanceJSON {
	o := instanceJSON{Service: i.service, ID: i.id, State: i.state(), Problem: i.problem}
	if i.is != nil {
		o.Addr, o.Zone, o.Version, o.Weight, o.Metadata = i.is.Addr, i.is.Zone, i.is.Version, i.is.Weight, i.is.Metadata
	}
	if i.lease != 0 {
		o.Lease = leases.Hex(i.lease)
	}
	if l, ok := known[i.lease]; ok && l.Granted > 0 {
		granted, left := l.Granted.Seconds(), l.Left.Seconds()
		o.Granted, o.Left = &granted, &left
	}
	return o
}

// serviceJSON is a service.
type serviceJSON struct {
	Service   string    `json:"service"`
	Time      time.Time `json:"time,omitzero"` // of a watch
	Ready     int       `json:"ready"`
	Starting  int       `json:"starting"`
	Draining  int       `json:"draining"`
	Malformed int       `json:"malformed"`
	Zones     []string  `json:"zones,omitempty"`
	Versions  []string  `json:"versions,omitempty"`
}

// byService counts instances by their services, which are in order.
func byService(all []instance) []serviceJSON {
	found := map[string]*serviceJSON{}
	zones, versions := map[string]map[string]bool{}, map[string]map[string]bool{}
	note := func(of map[string]map[string]bool, service, what string) {
		if what == "" {
			return
		}
		if of[service] == nil {
			of[service] = map[string]bool{}
		}
		of[service][what] = true
	}
	for _, i := range all {
		s := found[i.service]
		if s == nil {
			s = &serviceJSON{Service: i.service}
			found[i.service] = s
		}
		if i.is == nil {
			s.Malformed++
			continue
		}
		switch i.is.State {
		case registry.Ready:
			s.Ready++
		case registry.Starting:
			s.Starting++
		case registry.Draining:
			s.Draining++
		}
		note(zones, i.service, i.is.Zone)
		note(versions, i.service, i.is.Version)
	}
	rows := make([]serviceJSON, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		s := found[name]
		s.Zones, s.Versions = sortedKeys(zones[name]), sortedKeys(versions[name])
		rows = append(rows, *s)
	}
	return rows
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (s *serviceJSON) same(o serviceJSON) bool {
	return s.Ready == o.Ready && s.Starting == o.Starting && s.Draining == o.Draining && s.Malformed == o.Malformed &&
		slices.Equal(s.Zones, o.Zones) && slices.Equal(s.Versions, o.Versions)
}

// String says how many are in which state.
func (s *serviceJSON) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{s.Ready, "ready"}, {s.Starting, "starting"}, {s.Draining, "draining"}, {s.Malformed, "malformed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "no instances"
	}
	return strings.Join(parts, ", ")
}

var serviceHeader = []string{"SERVICE", "READY", "STARTING", "DRAINING", "MALFORMED", "ZONES", "VERSIONS"}

func serviceRows(all []serviceJSON) [][]string {
	rows := make([][]string, len(all))
	for n, s := range all {
		rows[n] = []string{
			s.Service, strconv.Itoa(s.Ready), strconv.Itoa(s.Starting), strconv.Itoa(s.Draining), strconv.Itoa(s.Malformed),
			strings.Join(s.Zones, " "), strings.Join(s.Versions, " "),
		}
	}
	return rows
}

// ask names what the command line says of an instance, for a line.
func ask(service, id string) string { return cli.Visible(service + "/" + id) }
