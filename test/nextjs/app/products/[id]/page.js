export const revalidate = 3600
export const generateStaticParams = () => [{ id: 'coffee' }]

export default async function Page({ params }) {
  const { id } = await params
  return (
    <h1>
      {id}, made at {String(process.hrtime.bigint())}
    </h1>
  )
}
