// Counts the words of a text: a function in Go, by AWS's own library for it.
package main

import (
	"context"
	"log"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	Text string `json:"text"`
}

type answer struct {
	Words int `json:"words"`
}

func handle(ctx context.Context, asked event) (answer, error) {
	words := len(strings.Fields(asked.Text))
	log.Printf("counted %d", words)
	return answer{words}, nil
}

func main() {
	lambda.Start(handle)
}
