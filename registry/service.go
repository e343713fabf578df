package registry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/follow"
)

const (
	defaultHold    = 0.5
	defaultHoldFor = 2 * time.Minute
)

var (
	errHoldShare = errors.New("HoldOnMassLoss refused: it is over 1")
	errHoldFor   = errors.New("HoldFor refused: it is negative")
)

// services are the followed services of every client that has views.
var services = struct {
	sync.Mutex
	of map[serviceKey]*service // guarded by Mutex, as are their refs
}{of: map[serviceKey]*service{}}

// serviceKey tells what views may share.
type serviceKey struct {
	client   *clientv3.Client
	name     string
	prefix   string
	decoders *Decoder // the first of the chain
	hold     float64
	holdFor  time.Duration
	cacheDir string
	logger   *zap.Logger
}

func newServiceKey(client *clientv3.Client, name string, opts *ViewOptions) (serviceKey, error) {
	k := serviceKey{client: client, name: name, hold: opts.HoldOnMassLoss, holdFor: opts.HoldFor, cacheDir: opts.CacheDir, logger: opts.Logger}
	var err error
	if k.prefix, err = servicePrefix(opts.Prefix, name); err != nil {
		return k, err
	}
	switch {
	case k.hold > 1:
		return k, errHoldShare
	case k.holdFor < 0:
		return k, errHoldFor
	case k.hold == 0:
		k.hold = defaultHold
	}
	if k.holdFor == 0 {
		k.holdFor = defaultHoldFor
	}
	if k.logger == nil {
		k.logger = silent
	}
	if len(opts.Decoders) > 0 {
		k.decoders = &opts.Decoders[0]
	}
	return k, decoders(opts.Decoders).validate()
}

var silent = zap.NewNop()

// service is what the views of one service share: one watch, one list, decoded once.
type service struct {
	serviceKey
	roster   *roster
	follower *follow.Follower
	copy     *diskCopy // nil if none is kept
	refs     int       // guarded by services

	life context.Context // ends with the last view
	end  context.CancelFunc
	work sync.WaitGroup // the roster's goroutine and the copy's

	cold sync.Mutex // held while something old is looked for
}

// acquire returns the service, followed since now if it was not, with one more reference.
func acquire(key serviceKey, chain decoders) (*service, error) {
	services.Lock()
	defer services.Unlock()
	if s := services.of[key]; s != nil {
		s.refs++
		return s, nil
	}
	s := &service{serviceKey: key, refs: 1}
	if key.cacheDir != "" {
		var err error
		if s.copy, err = newDiskCopy(key); err != nil {
			return nil, err
		}
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.roster = newRoster(s.life, key, slices.Clone(chain))
	seed := s.roster.cell.Ptr() // before anything newer is heard, which is yet to be copied
	s.follower = follow.Attach(key.client, follow.Prefix(key.prefix).For(follow.Registry), s.roster)
	s.work.Go(s.roster.mind)
	if s.copy != nil {
		s.work.Go(func() { s.copy.keep(s.life, s.roster.cell, seed, s.follower) })
	}
	services.of[key] = s
	return s, nil
}

// release drops a reference; with the last one nothing is followed any more.
func (s *service) release() {
	services.Lock()
	s.refs--
	last := s.refs == 0
	if last {
		delete(services.of, s.serviceKey)
	}
	services.Unlock()
	if last {
		s.end()
		s.follower.Close()
		s.work.Wait()
	}
}

// start waits until the list is live, or made of something older.
func (s *service) start(ctx context.Context) error {
	return s.follower.Open(ctx, s.roster.whenLive(), s.startCold)
}

// startCold has the list made of what a single member knows, or of the copy on disk, unless it is known already. It reports
// whether there is a list now.
//
// A member without a leader may be far behind, and that it knows of nobody says nothing: then the copy is better.
func (s *service) startCold(ctx context.Context) bool {
	s.cold.Lock() // one of those who wait
	defer s.cold.Unlock()
	if s.roster.known() {
		return true
	}
	kvs, revision, err := s.follower.Serializable(ctx)
	if err == nil && s.roster.startFrom(s.roster.decodeAll(kvs), Stale, revision, time.Time{}) {
		return true
	}
	if s.copy == nil {
		return false
	}
	list, revision, at, err := s.copy.load()
	if err != nil {
		s.logger.Warn("copy of the instances cannot be used", zap.String("service", s.name), zap.Error(err))
		return false
	}
	return s.roster.startFrom(list, Disk, revision, at)
}
