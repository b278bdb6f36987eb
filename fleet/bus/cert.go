package bus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	caCertFile  = "ca.pem"
	caKeyFile   = "ca.key"
	srvCertFile = "server.pem"
	srvKeyFile  = "server.key"

	caLife  = 10 * 365 * 24 * time.Hour
	srvLife = 2 * 365 * 24 * time.Hour
	// A booting server's clock may stand at its image's build time: a
	// certificate is valid from well before it was made.
	backdate = 5 * 365 * 24 * time.Hour
)

// authorityKeys are a CA with its key.
type authorityKeys struct {
	crt *x509.Certificate
	key *ecdsa.PrivateKey
}

// openAuthority opens the CA that dir keeps, or makes one.
func openAuthority(dir string, now time.Time) (*authorityKeys, error) {
	crt, key, err := loadPair(dir, caCertFile, caKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		crt, key, err = makePair(dir, caCertFile, caKeyFile, authority(now), nil, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("bus CA: %w", err)
	}
	return &authorityKeys{crt, key}, nil
}

// certificates returns the bus's TLS configuration and its CA as PEM. Both are
// kept in dir; the server's certificate is made anew where its names changed
// or less than a third of its life is left.
func certificates(dir string, names []string, now time.Time) (*tls.Config, []byte, error) {
	ca, err := openAuthority(dir, now)
	if err != nil {
		return nil, nil, err
	}
	crt, key, err := loadPair(dir, srvCertFile, srvKeyFile)
	if err == nil && !serves(crt, ca.crt, names, now) || errors.Is(err, fs.ErrNotExist) {
		crt, key, err = makePair(dir, srvCertFile, srvKeyFile, leaf(names, now), ca.crt, ca.key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("bus certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{crt.Raw}, PrivateKey: key, Leaf: crt}},
	}, ca.pem(), nil
}

func authority(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Ingot bus CA"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
}

func leaf(names []string, now time.Time) *x509.Certificate {
	c := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Ingot bus"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(srvLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	return c
}

// serves says whether crt is still good for all names.
func serves(crt, ca *x509.Certificate, names []string, now time.Time) bool {
	if crt.CheckSignatureFrom(ca) != nil || now.Add(srvLife/3).After(crt.NotAfter) || now.Before(crt.NotBefore) {
		return false
	}
	return !slices.ContainsFunc(names, func(n string) bool { return crt.VerifyHostname(n) != nil })
}

func loadPair(dir, certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s and %s: %v", certFile, keyFile, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("read %s: is a %T, want ECDSA", keyFile, pair.PrivateKey)
	}
	return pair.Leaf, key, nil
}

// makePair makes a key and its certificate, signed by parent or by itself. The
// certificate is written last: with it the pair is whole.
func makePair(dir, certFile, keyFile string, c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %v", err)
	}
	if parent == nil {
		parent, by = c, key
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, fmt.Errorf("make serial number: %v", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate: %v", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("write key: %v", err)
	}
	if err := replaceFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return nil, nil, err
	}
	if err := replaceFile(filepath.Join(dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, nil, err
	}
	crt, err := x509.ParseCertificate(der)
	return crt, key, err
}

// replaceFile writes a file of mode 0600 whole or not at all.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
