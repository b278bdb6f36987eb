package redfish

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Cache keeps the answers of crawls. A scope is one BMC as one account sees
// it. What it gives back is asked for again, with If-None-Match: a cache never
// answers for a BMC.
type Cache interface {
	Load(scope string) Answers
	Save(scope string, a Answers) error
}

// Answers are resources by their path.
type Answers map[string]Answer

// Answer is one resource and the ETag that it came with.
type Answer struct {
	ETag string          `json:"etag"`
	Body json.RawMessage `json:"body"`
}

// MemoryCache is a [Cache] that lives as long as the process. The zero value
// is ready.
type MemoryCache struct {
	mu     sync.Mutex
	scopes map[string]Answers
}

// Load is what the last crawl saved.
func (c *MemoryCache) Load(scope string) Answers {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scopes[scope]
}

// Save keeps a crawl's answers in the place of earlier ones.
func (c *MemoryCache) Save(scope string, a Answers) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scopes == nil {
		c.scopes = map[string]Answers{}
	}
	c.scopes[scope] = a
	return nil
}

// DirCache is a [Cache] in a directory, which is made where it is missing: one
// file for each scope, readable by its owner only.
type DirCache string

// maxCacheBytes bounds one file of a cache.
const maxCacheBytes = maxBytes

// Load is what the last crawl saved. A file that is not whole is none.
func (d DirCache) Load(scope string) Answers {
	f, err := os.Open(d.path(scope))
	if err != nil {
		return nil
	}
	defer f.Close()
	var a Answers
	if json.NewDecoder(io.LimitReader(f, maxCacheBytes)).Decode(&a) != nil {
		return nil
	}
	return a
}

// Save writes a crawl's answers, whole or not at all.
func (d DirCache) Save(scope string, a Answers) error {
	if err := d.save(scope, a); err != nil {
		return fmt.Errorf("keep answers in %s: %w", string(d), err)
	}
	return nil
}

func (d DirCache) save(scope string, a Answers) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if len(b) > maxCacheBytes {
		return fmt.Errorf("%d bytes, at most %d", len(b), maxCacheBytes)
	}
	f, err := os.CreateTemp(string(d), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), d.path(scope))
	}
	if err != nil {
		if e := os.Remove(f.Name()); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (d DirCache) path(scope string) string { return filepath.Join(string(d), scope+".json") }

// scopeOf is the scope of a service: its address and account, and all that its
// root says, so that another BMC at the same address is another scope.
func scopeOf(base, user string, root node) string {
	b, err := json.Marshal([]any{base, user, root})
	if err != nil {
		return "" // a decoded root always marshals
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
