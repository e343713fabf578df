package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// The least releases that have none of the vulnerabilities which etcd has published of itself, as of floorsOn (advisories at
// https://github.com/etcd-io/etcd/security/advisories, releases in etcd's CHANGELOG).
const floorsOn = "2026-09-21"

var floors = map[release]struct {
	patch int
	why   string
}{
	{3, 5}: {33, julyAdvisories},
	{3, 6}: {14, julyAdvisories},
	{3, 7}: {1, julyAdvisories},
}

// julyAdvisories are those of 2026-07-23, the last ones. Each floor is above those of the ones before: GHSA-3wh4-j44w-pg92 (2026-07-01),
// GHSA-x35m-3gp4-4fh5 (CVE-2026-44283, 2026-05-01), GHSA-q8m4-xhhv-38mg and GHSA-rfx7-8w68-q57q (CVE-2026-33413 and -33343, 2026-03-20).
const julyAdvisories = "GHSA-xg4h-6gfc-h4m8 (a watch sees keys that its user may not read), " +
	"GHSA-6vch-q96h-7gc3, CVE-2026-73500 (anybody can exhaust a member's memory with unfinished handshakes)"

// oldest is the oldest release that etcd still mends.
var oldest = release{3, 5}

// release is a minor version.
type release struct{ major, minor int }

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

func (r release) before(o release) bool {
	return r.major < o.major || r.major == o.major && r.minor < o.minor
}

// parseVersion takes a version as members tell it, 3.6.14 or 3.7.0-rc.1. A candidate counts as before its release.
func parseVersion(text string) (r release, patch int, ok bool) {
	core, candidate, is := strings.Cut(strings.TrimPrefix(text, "v"), "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return release{}, 0, false
	}
	var n [3]int
	for i, part := range parts {
		var err error
		if n[i], err = strconv.Atoi(part); err != nil || n[i] < 0 {
			return release{}, 0, false
		}
	}
	if is && candidate != "" {
		n[2]--
	}
	return release{n[0], n[1]}, n[2], true
}

// judgeVersion says whether a version is one to go live with.
func judgeVersion(version string) Finding {
	f := Finding{Verdict: OK, Subject: "version " + version}
	r, patch, ok := parseVersion(version)
	floor, known := floors[r]
	switch {
	case !ok:
		f.Verdict, f.Reason, f.Remedy = Skipped, "it is no version of etcd's", "Find out what the member runs."
	case r.before(oldest):
		f.Verdict, f.Reason = Fail, fmt.Sprintf("etcd mends %v no more: releases from %v on get fixes", r, oldest)
		f.Remedy = fmt.Sprintf("Upgrade, one minor version at a time, to %v.%d or later.", oldest, floors[oldest].patch)
	case !known:
		f.Verdict, f.Reason = Skipped, fmt.Sprintf("the doctor's table of vulnerabilities, of %s, does not know %v", floorsOn, r)
		f.Remedy = "Look it up at https://github.com/etcd-io/etcd/security/advisories, or use a newer etcdkit."
	case patch < floor.patch:
		f.Verdict, f.Reason = Fail, fmt.Sprintf("%v.%d is the least without a published vulnerability (as of %s)", r, floor.patch, floorsOn)
		f.Evidence = []string{"fixed there: " + floor.why}
		f.Remedy = fmt.Sprintf("Upgrade every member to %v.%d or later, one after the other.", r, floor.patch)
	default:
		f.Reason = fmt.Sprintf("at or above %v.%d, the least without a published vulnerability (as of %s)", r, floor.patch, floorsOn)
	}
	return f
}
