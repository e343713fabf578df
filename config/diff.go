package config

// Diff is what differs between two documents. It shows what is in them: that is what it is for. Sealed text is shown as sealed only.
type Diff struct {
	Key  string  // empty for documents of no key
	A, B Version // without values; zero for documents of no version

	// Format is that of both documents, if they parse: "json", "yaml" or "toml"; else it is empty.
	Format string

	// Paths are the changed places of documents that parse, in order.
	Paths []PathChange

	// Lines are the changed lines with some of those around them.
	Lines []DiffLine
}

// PathChange is a place in a structured document that differs.
type PathChange struct {
	Path     string // as "limits.rate" or "peers[2]"
	Old, New string // as JSON; empty if there was nothing, or is nothing
}

// DiffLine is a line of a diff.
type DiffLine struct {
	Op   byte // ' ', '-' or '+', or '@' for a new place
	Text string
}

// DiffValues returns what differs between two documents, of which nil is one that does not exist.
func DiffValues(a, b []byte) Diff { panic("not yet") }

// Equal reports whether nothing differs.
func (d Diff) Equal() bool { return len(d.Lines) == 0 }

// String is a unified diff.
func (d Diff) String() string { panic("not yet") }
