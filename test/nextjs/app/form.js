'use client'

import { useActionState } from 'react'
import { say } from './say'

export default function Form() {
  const [said, act] = useActionState(say, '')
  return (
    <form action={act}>
      <input name="word" />
      <button>say</button>
      <output>{said}</output>
    </form>
  )
}
