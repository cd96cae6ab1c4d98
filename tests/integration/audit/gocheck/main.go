// Verifies a log directory with golang.org/x/mod/sumdb alone: nothing of edgeseal is used.
//
//	go run main.go DIR VKEY [OLD_CHECKPOINT [WITNESS_VKEY]]
//
// DIR is a log in the layout of c2sp.org/tlog-tiles. It opens the signed checkpoint with VKEY, reads the tree through
// TileHashReader, which holds every tile against the signed root, and compares every entry with its leaf;
// with OLD_CHECKPOINT, proves that the log has only grown since then.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// files reads tiles from a directory. sumdb says tile/8/<L>/<N>, tlog-tiles says tile/<L>/<N>.
type files struct{ root string }

func (f files) Height() int { return height }

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(f.root, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (f files) SaveTiles([]tlog.Tile, [][]byte) {}

// bundle returns the entries of bundle n in a tree of the given size; present is false where they were pruned.
func (f files) bundle(n, size int64) (entries [][]byte, present bool, err error) {
	width := size - n<<height
	if width > 1<<height {
		width = 1 << height
	}
	path := tlog.Tile{H: height, L: 0, N: n, W: int(width)}.Path()
	data, err := os.ReadFile(filepath.Join(f.root, strings.Replace(path, "tile/8/0/", "tile/entries/", 1)))
	if os.IsNotExist(err) {
		return nil, false, nil
	}
	for len(data) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(data))
		if end > len(data) {
			return nil, true, fmt.Errorf("bundle %d is cut", n)
		}
		entries, data = append(entries, data[2:end]), data[end:]
	}
	if err == nil && (len(data) != 0 || int64(len(entries)) != width) {
		err = fmt.Errorf("bundle %d has %d entries, want %d", n, len(entries), width)
	}
	return entries, true, err
}

// witness is a verifier of cosignature/v1 (c2sp.org/tlog-cosignature), which sumdb does not have.
type witness struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.id }

func (w witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(w.key, []byte(message), signature[8:])
}

func newWitness(vkey string) (w witness, err error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return w, fmt.Errorf("not a key: %s", vkey)
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return w, err
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) != 1+ed25519.PublicKeySize || data[0] != 4 {
		return w, fmt.Errorf("not a key for cosignatures: %s", vkey)
	}
	return witness{parts[0], uint32(id), data[1:]}, nil
}

// cosigned requires a witness's signature on the checkpoint.
func cosigned(directory, vkey string) error {
	w, err := newWitness(vkey)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return err
	}
	signed, err := note.Open(data, note.VerifierList(w))
	if err == nil {
		fmt.Printf("cosigned: by %s\n", signed.Sigs[0].Name)
	}
	return err
}

// open verifies a signed checkpoint: origin, size, root hash, and whatever lines follow.
func open(path string, verifier note.Verifier) (tree tlog.Tree, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return tree, err
	}
	signed, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tree, fmt.Errorf("%s: %w", path, err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("%s: not a checkpoint of %s", path, verifier.Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// included holds the entries of a bundle against the leaves of the signed tree, and proves the last of them by itself.
func included(tree tlog.Tree, hashes tlog.HashReader, first int64, entries [][]byte) error {
	var stored []int64
	for i := range entries {
		stored = append(stored, tlog.StoredHashIndex(0, first+int64(i)))
	}
	leaves, err := hashes.ReadHashes(stored)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if tlog.RecordHash(entry) != leaves[i] {
			return fmt.Errorf("entry %d is not the one in the tree", first+int64(i))
		}
	}
	last := first + int64(len(entries)) - 1
	proof, err := tlog.ProveRecord(tree.N, last, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, last, tlog.RecordHash(entries[len(entries)-1]))
}

func check(directory, vkey, old string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	tree, err := open(filepath.Join(directory, "checkpoint"), verifier)
	if err != nil {
		return err
	}
	fmt.Printf("checkpoint: %s size %d root %s\n", verifier.Name(), tree.N, tree.Hash)
	log := files{directory}
	hashes := tlog.TileHashReader(tree, log)
	checked, pruned := 0, 0
	for n := int64(0); n<<height < tree.N; n++ {
		entries, present, err := log.bundle(n, tree.N)
		if err != nil {
			return err
		}
		if !present {
			if checked > 0 || (n+1)<<height > tree.N {
				return fmt.Errorf("bundle %d is missing", n)
			}
			pruned += 1 << height
			continue
		}
		first := n << height
		if err := included(tree, hashes, first, entries); err != nil {
			return err
		}
		checked += len(entries)
	}
	fmt.Printf("inclusion: %d entries are in the tree, %d are pruned\n", checked, pruned)
	if old == "" {
		return nil
	}
	before, err := open(old, verifier)
	if err != nil {
		return err
	}
	proof, err := tlog.ProveTree(tree.N, before.N, hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
		return fmt.Errorf("consistency: %w", err)
	}
	fmt.Printf("consistency: size %d continues size %d\n", tree.N, before.N)
	return nil
}

func main() {
	if len(os.Args) < 3 || len(os.Args) > 5 {
		fmt.Fprintln(os.Stderr, "usage: gocheck DIR VKEY [OLD_CHECKPOINT [WITNESS_VKEY]]")
		os.Exit(2)
	}
	old := ""
	if len(os.Args) > 3 {
		old = os.Args[3]
	}
	err := check(os.Args[1], os.Args[2], old)
	if err == nil && len(os.Args) > 4 {
		err = cosigned(os.Args[1], os.Args[4])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
