package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdkit/etcdkit/internal/call"
	"github.com/etcdkit/etcdkit/internal/follow"
)

const (
	// firstSync bounds the wait for the first snapshot, where ctx does not.
	firstSync = 10 * time.Second

	// coldAfter is how long etcd has for it before something older is looked for.
	coldAfter = 3 * time.Second

	// coldRead bounds the question to a single member.
	coldRead = time.Second

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
	s.follower = follow.Attach(key.client, follow.Prefix(key.prefix), s.roster)
	s.work.Go(s.roster.mind)
	if s.copy != nil {
		s.work.Go(func() { s.copy.keep(s.life, s.roster.cell, s.follower) })
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

// start waits until the list is live, or made of something older. Beside that a key is read: a watch that cannot be opened is
// tried again and does not say why, while a read is refused by a server that is not there, or does not let this user in.
func (s *service) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstSync)
	answered := make(chan error, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	asking.Go(func() {
		_, err := call.Do(ctx, s.client, "read", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.client.KV.Get(ctx, s.prefix, clientv3.WithCountOnly())
		})
		answered <- err
	})
	patience := time.NewTimer(patienceOf(ctx))
	defer patience.Stop()
	for asked := true; ; {
		select {
		case <-s.roster.whenLive():
			return nil
		case err := <-answered:
			if asked = false; err == nil {
				continue
			}
			if ctx.Err() == nil && away(err) && s.startCold(ctx) {
				return nil
			}
			return err
		case <-patience.C:
			if s.startCold(ctx) {
				return nil
			}
		case <-ctx.Done():
			if asked {
				if err := <-answered; err != nil { // which names the endpoints
					return err
				}
			}
			err := context.Cause(ctx)
			if why := s.follower.Status().Err; why != nil {
				err = fmt.Errorf("%w: %w", err, why)
			}
			return err
		}
	}
}

// patienceOf is how long to wait for etcd before something older is looked for.
func patienceOf(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(coldAfter, time.Until(deadline)/2)
	}
	return coldAfter
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
	ctx, cancel := context.WithTimeout(ctx, coldRead)
	defer cancel()
	resp, err := s.client.KV.Get(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithSerializable())
	if err == nil && s.roster.startFrom(s.roster.decodeAll(resp.Kvs), Stale, resp.Header.GetRevision(), time.Time{}) {
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
