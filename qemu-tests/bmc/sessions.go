package bmc

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"
)

// errSessionsFull is answered when every Redfish session is in use.
var errSessionsFull = errors.New("all sessions are in use")

type session struct {
	id, token, user string
	used            time.Time
}

// sessions are the Redfish sessions; idle ones end. max and idle are set once.
type sessions struct {
	max  int
	idle time.Duration

	mu   sync.Mutex
	last int
	open []session
}

func (s *sessions) expireLocked() {
	s.open = slices.DeleteFunc(s.open, func(o session) bool { return time.Since(o.used) > s.idle })
}

func (s *sessions) login(user string) (session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	if len(s.open) >= s.max {
		return session{}, errSessionsFull
	}
	s.last++
	n := session{id: strconv.Itoa(s.last), token: rand.Text(), user: user, used: time.Now()}
	s.open = append(s.open, n)
	return n, nil
}

// use finds the session of a token and keeps it alive.
func (s *sessions) use(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	for i := range s.open {
		if subtle.ConstantTimeCompare([]byte(s.open[i].token), []byte(token)) == 1 {
			s.open[i].used = time.Now()
			return true
		}
	}
	return false
}

func (s *sessions) logout(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.open)
	s.open = slices.DeleteFunc(s.open, func(o session) bool { return o.id == id })
	return len(s.open) < before
}

func (s *sessions) list() []session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	return slices.Clone(s.open)
}

func (s *sessions) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = nil
}
